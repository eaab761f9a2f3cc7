"""The local stack's life: Ctrl-C at any time and kill -9 leave no process and no listening socket behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.broker import free_ports
from tests.support.leftovers import listening, processes_of
from tests.support.stack import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 30.0


@dataclass
class Bench:
    """A data directory and ports of its own, and the supervisor under test."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    supervisor: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        names = ("BROKER_PORT", "CONTROLLER_PORT", "REDIS_PORT", "REGISTRY_PORT")
        ports = {f"ISOS_{name}": str(port) for name, port in zip(names, self.ports, strict=True)}
        return {**os.environ, **ports, "ISOS_DATA_DIR": str(self.folder), "PYTHONPATH": str(ROOT)}

    def start(self, kind: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.support.dummy_stack", kind]
        with (self.folder / "out.log").open("ab") as out:
            self.supervisor = subprocess.Popen(command, env=self.env, stdout=out, stderr=out, process_group=0, cwd=ROOT)
        return self.supervisor

    def isos(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.cli", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, cwd=ROOT)

    def state(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "run" / "stack.json").read_text()))
        return {}

    def phase(self, name: str) -> str:
        return next((row["phase"] for row in self.state().get("processes", []) if row["name"] == name), "")

    def is_ready(self) -> bool:
        return bool(self.state().get("ready"))

    def leftovers(self) -> list[int]:
        """Give all processes that carry this data directory."""
        return processes_of(self.folder)

    def listening(self) -> list[int]:
        """Give the ports on which somebody still listens."""
        return listening(self.ports)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    if made.supervisor is not None and made.supervisor.poll() is None:
        made.supervisor.kill()
        made.supervisor.wait()


def assert_gone(bench: Bench, timeout_s: float = 10.0) -> None:
    wait_until(lambda: not bench.leftovers() and not bench.listening(), timeout_s, "the end of all processes")


def started(bench: Bench, name: str, *phases: str) -> None:
    wait_until(lambda: bench.phase(name) in phases, PATIENCE_S, f"{name} is {' or '.join(phases)}")


@pytest.mark.parametrize("name", ["broker", "alpha"])
def test_ctrl_c_during_the_start_leaves_nothing(bench: Bench, name: str) -> None:
    supervisor = bench.start("slow")
    started(bench, name, "starting")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 0
    assert bench.leftovers() == []
    assert bench.listening() == []


def test_ctrl_c_under_load_leaves_nothing(bench: Bench) -> None:
    supervisor = bench.start("busy")
    wait_until(bench.is_ready, PATIENCE_S, "readiness")
    produced = asyncio.run(produce_until_interrupted(bench, supervisor))
    assert produced > 0
    assert supervisor.wait(25) == 0
    assert bench.leftovers() == []
    assert bench.listening() == []


async def produce_until_interrupted(bench: Bench, supervisor: subprocess.Popen[bytes]) -> int:
    """Write records as fast as they go, interrupt the supervisor amid them, and give the number acknowledged before."""
    address = f"127.0.0.1:{bench.ports[0]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic("load", 1, 1)])
    await admin.close()
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=address, request_timeout_ms=2000)
    await producer.start()
    acknowledged = 0
    try:
        for number in range(2000):
            if number == 200:
                supervisor.send_signal(signal.SIGINT)
            async with asyncio.timeout(2):
                await producer.send_and_wait("load", b"x" * 1000)
            acknowledged += 1
    except (TimeoutError, aiokafka.errors.KafkaError):
        pass
    finally:
        with contextlib.suppress(TimeoutError, aiokafka.errors.KafkaError):
            await asyncio.wait_for(producer.stop(), 3)
    return acknowledged


def test_a_second_ctrl_c_during_the_stop_leaves_nothing(bench: Bench) -> None:
    supervisor = bench.start("slow")
    wait_until(bench.is_ready, PATIENCE_S, "readiness")
    supervisor.send_signal(signal.SIGINT)
    wait_until(
        lambda: "alpha" in bench.folder.joinpath("out.log").read_text() and bench.phase("alpha") == "ready",
        PATIENCE_S,
        "alpha runs",
    )
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(5) == 0
    assert bench.leftovers() == []
    assert bench.listening() == []


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_works(bench: Bench) -> None:
    supervisor = bench.start("ready")
    wait_until(bench.is_ready, PATIENCE_S, "readiness")
    supervisor.kill()
    supervisor.wait()
    second = bench.start("ready")  # at once: the first one's children may still be letting go of their ports
    wait_until(lambda: bench.state()["supervisor"]["pid"] == second.pid and bench.is_ready(), PATIENCE_S, "the second")
    second.kill()
    second.wait()
    assert_gone(bench)


def test_a_killed_process_is_back_within_half_a_second(bench: Bench) -> None:
    bench.start("ready")
    wait_until(bench.is_ready, PATIENCE_S, "readiness")
    before = next(row for row in bench.state()["processes"] if row["name"] == "alpha")
    os.kill(before["pid"], signal.SIGKILL)
    killed = time.time()
    wait_until(
        lambda: bench.phase("alpha") == "ready" and row_of(bench, "alpha")["restarts"] == 1, PATIENCE_S, "a restart"
    )
    assert row_of(bench, "alpha")["started_us"] / 1e6 - killed < 0.5
    assert row_of(bench, "beta")["restarts"] == 0


def test_a_stopped_process_is_left_alone_and_status_says_frozen(bench: Bench) -> None:
    bench.start("ready")
    wait_until(bench.is_ready, PATIENCE_S, "readiness")
    pid = row_of(bench, "alpha")["pid"]
    os.kill(pid, signal.SIGSTOP)
    rows = json.loads(bench.isos("status", "--output", "json").stdout)["processes"]
    assert {row["name"]: row["phase"] for row in rows}["alpha"] == "frozen"
    assert bench.isos("down").returncode == 0
    assert bench.leftovers() == []


def row_of(bench: Bench, name: str) -> dict[str, Any]:
    return next(row for row in bench.state()["processes"] if row["name"] == name)


def test_a_second_start_on_the_same_data_is_refused(bench: Bench) -> None:
    bench.start("ready")
    wait_until(bench.is_ready, PATIENCE_S, "readiness")
    refused = bench.isos("up")
    assert refused.returncode == 6
    assert "already running" in refused.stderr
    assert bench.is_ready()


def test_a_taken_port_is_named_with_its_setting(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", bench.ports[2]))
        taken.listen()
        refused = bench.isos("up")
    assert refused.returncode == 6
    assert f"Port {bench.ports[2]} is taken" in refused.stderr
    assert "redis_port" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
