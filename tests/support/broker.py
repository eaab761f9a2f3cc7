"""Real servers for tests. ``TEST_BROKER`` says which: ``local`` (started here), ``container``, or an address that runs.

Ports are free ones of this moment; the data is in a temporary folder and gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.broker import broker_process, format_storage
from infra.process import Process
from infra.redis_server import redis_process
from infra.settings import Settings, load_settings

_START_S = 60.0
_CONTAINER_SETTINGS = {
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_MESSAGE_MAX_BYTES": "12582912",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
}


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the session's broker and Redis are, and settings that point to them."""

    bootstrap: str
    redis_url: str
    settings: Settings


def free_ports(count: int) -> list[int]:
    """Find ``count`` distinct TCP ports on loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def unique(prefix: str) -> str:
    """Give a name that no other test uses, for a topic or a group."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@contextlib.contextmanager
def start_servers() -> Iterator[Servers]:
    """Give a broker and a Redis by ``TEST_BROKER``; started ones end with the context.

    Raises:
        RuntimeError: with one sentence, when they cannot be had. The suite must fail then, not skip.
    """
    choice = os.environ.get("TEST_BROKER", "local")
    if choice == "local":
        with local_servers() as servers:
            yield servers
    elif choice == "container":
        with _container_servers() as servers:
            yield servers
    else:
        redis_url = os.environ.get("TEST_REDIS", "redis://127.0.0.1:6379/0")
        with tempfile.TemporaryDirectory() as folder:
            yield Servers(choice, redis_url, _settings(Path(folder), brokers=choice, redis_url=redis_url))


def _settings(folder: Path, **flags: object) -> Settings:
    broker, controller, redis, registry = free_ports(4)
    ports = {"broker_port": broker, "controller_port": controller, "redis_port": redis, "registry_port": registry}
    return load_settings(data_dir=folder, **{**ports, **flags})


@contextlib.contextmanager
def local_servers(properties: Callable[[Settings], str] | None = None) -> Iterator[Servers]:
    """Give a broker and a Redis of one's own, started here, whatever ``TEST_BROKER`` says.

    ``properties`` gives another text for the broker's server.properties than the program's.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = _settings(Path(folder), brokers="", redis_url="")
        settings.run_dir.mkdir(parents=True)
        format_storage(settings)
        if properties is not None:
            (settings.data_dir / "kafka" / "server.properties").write_text(properties(settings))
        processes = [Process(broker_process(settings)), Process(redis_process(settings))]
        with _supervised(processes):
            yield Servers(settings.bootstrap, settings.redis_address, settings)


@contextlib.contextmanager
def _supervised(processes: list[Process]) -> Iterator[None]:
    """Supervise on a loop of its own in a thread, so that each test has a fresh loop and the servers outlive them all.

    The thread lives as long as its children: the kernel ends them when the thread that made them ends.
    """
    ready, failure = threading.Event(), []
    loop = asyncio.new_event_loop()

    async def main() -> None:
        tasks = [asyncio.create_task(process.supervise()) for process in processes]
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.gather(*(process.wait_ready() for process in processes))
        except TimeoutError:
            names = ", ".join(process.spec.name for process in processes if process.ready_s is None)
            failure.append(f"{names} did not start within {_START_S:.0f} s; log: {_tail(processes)}")
            for process in processes:
                process.ask_to_stop()
        ready.set()
        await asyncio.gather(*tasks)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), name="servers")
    thread.start()
    ready.wait()
    try:
        if failure:
            raise RuntimeError(failure[0])
        yield
    finally:
        for process in processes:
            loop.call_soon_threadsafe(process.ask_to_stop)
        thread.join()
        loop.close()


def _tail(processes: list[Process]) -> str:
    texts = [path.read_text(errors="replace")[-500:] for path in (p.spec.log_path for p in processes) if path.exists()]
    return " | ".join(texts)


@contextlib.contextmanager
def _container_servers() -> Iterator[Servers]:
    # In a process of its own: without an engine the client leaves sockets behind, which this suite counts as an error.
    probe = [sys.executable, "-c", "import docker; docker.from_env(timeout=10).ping()"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        raise RuntimeError(
            "TEST_BROKER=container needs a container engine, and none answers (`docker info`); "
            "without TEST_BROKER the tests start a broker of their own."
        )
    from testcontainers.community.kafka import KafkaContainer
    from testcontainers.community.redis import RedisContainer

    kafka = KafkaContainer("confluentinc/cp-kafka:8.1.1").with_kraft()  # Apache Kafka 4.1
    for name, value in _CONTAINER_SETTINGS.items():
        kafka = kafka.with_env(name, value)
    redis = RedisContainer("redis:7.4")
    with tempfile.TemporaryDirectory() as folder, kafka, redis:
        bootstrap = str(kafka.get_bootstrap_server())
        redis_url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
        yield Servers(bootstrap, redis_url, _settings(Path(folder), brokers=bootstrap, redis_url=redis_url))
