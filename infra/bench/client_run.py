"""How many requests a second one process makes with our Python client: the scenario ``client``.

A broker of ours without any stage, and a process that answers everything at once (``answerer``): what is measured is
the client, not what serves. Topics of its own, deleted afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from infra.bench.answerer import Config
from infra.bench.processes import commit, machine
from infra.running_stack import running_stack, write_result
from infra.settings import ROOT, Settings, StartError
from streams.client.client import Client, Request
from streams.codec import subject_of
from streams.connection import Connection
from streams.registry.schema_log import read_schema_ids

NAME: Final = "client"
NUM_PARTITIONS: Final = 2
NUM_REQUESTS: Final = 60_000
NUM_WARMUP: Final = 5_000
ROW: Final = {"x": np.zeros((1, 256), np.float32)}
NO_STAGES: Final = dict.fromkeys(("edges", "routers", "executors", "validators"), 0)

Way = Callable[[Client, int], Awaitable[int]]
"""Makes a number of requests and gives the number of those that ended OK."""


def run_client(settings: Settings) -> int:
    """Measure, write ``results/client.json``, print the figures; 7 when a request did not end OK.

    Raises StartError when the broker or the answering process does not start.
    """
    settings = settings.model_copy(update=NO_STAGES)
    with running_stack(settings), _topics(settings.bootstrap) as topics:
        ways = asyncio.run(_measure(settings.bootstrap, topics))
    result = document(ways)
    path = write_result(NAME, result)
    for name, figures in ways.items():
        print(f"{name:>8}: {figures['rate_rps']:>8.0f} requests/s, {figures['cpu_us']:.1f} us of CPU each")
    print(f"Figures: {path}")
    return 0 if result["ok"] == result["sent"] else 7


def document(ways: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The result of one run; ``rate_rps`` is the wall rate of ``stream``, and ``ways`` holds all ways to call."""
    return {
        "scenario": NAME,
        "parameters": {
            "requests": "one 1 KiB row each, FP32; results with ten FP32 values",
            "num_requests": NUM_REQUESTS,
            "partitions": NUM_PARTITIONS,
        },
        "machine": machine(),
        "commit": commit(ROOT),
        "sent": sum(figures["sent"] for figures in ways.values()),
        "ok": sum(figures["ok"] for figures in ways.values()),
        "rate_rps": ways["stream"]["rate_rps"],
        "cpu_us": ways["stream"]["cpu_us"],
        "ways": ways,
    }


async def _measure(bootstrap: str, topics: tuple[str, str]) -> dict[str, dict[str, Any]]:
    ids = await read_schema_ids(Connection(bootstrap))
    config = Config(bootstrap, *topics, bytes(16).hex(), ids.write_ids[subject_of("inference.results")])
    ways: dict[str, Way] = {"stream": _stream, "infer": _infer}
    with answerer(config):
        async with Client(bootstrap, topics=topics) as client:
            await _stream(client, NUM_WARMUP)
            return {name: await measured(way, client, NUM_REQUESTS) for name, way in ways.items()}


async def measured(way: Way, client: Client, count: int) -> dict[str, Any]:
    """Figures of one way: ``rate_rps`` by the clock on the wall, ``cpu_us`` of this process per request."""
    cpu, wall = time.process_time(), time.perf_counter()
    done = await way(client, count)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "sent": count,
        "ok": done,
        "rate_rps": round(count / wall, 1),
        "cpu_us": round(cpu / count * 1e6, 2),
        "max_in_flight": client.max_in_flight,
    }


async def _stream(client: Client, count: int) -> int:
    done = 0
    async for answer in client.stream(Request("bench-00", ROW) for _ in range(count)):
        done += answer.ok
    return done


async def _infer(client: Client, count: int) -> int:
    """``infer`` in as many tasks as there may be calls under way."""
    left = iter(range(count))

    async def work() -> int:
        done = 0
        for _ in left:
            done += (await client.infer("bench-00", ROW)).ok
        return done

    return sum(await asyncio.gather(*(work() for _ in range(client.max_in_flight))))


@contextlib.contextmanager
def _topics(bootstrap: str) -> Iterator[tuple[str, str]]:
    """Names of two new topics, for requests and results; they go with the context."""
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    run = uuid.uuid4().hex[:8]
    names = f"bench-requests-{run}", f"bench-results-{run}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, NUM_PARTITIONS, 1) for name in names]).values():
        future.result(20)
    try:
        yield names
    finally:
        for future in admin.delete_topics(list(names)).values():
            future.result(20)


@contextlib.contextmanager
def answerer(config: Config) -> Iterator[subprocess.Popen[str]]:
    """The answering process, ready; it ends with the context. Raises StartError when it does not start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answerer.json"
        config.write(path)
        command = [sys.executable, "-m", "infra.bench.answerer", str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise StartError("The answering process did not start; see above.", exit_code=1)
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
