"""Take-over of a journaled agent: slow fold under a rebalance, kill -9, freeze. No input lost, no effect twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.connection import Connection
from streams.control.effect_id import SeenEffects
from streams.partition_log import KafkaLog
from streams.topics import full_name
from tests.support.broker import unique
from tests.support.topics import create_topics

SESSION_S = 3.0
SLOW_FOLD_S = 4.5  # longer than a session


@dataclass
class Instance:
    """One process of the counting agent; what it said and what it logged lie in files."""

    process: subprocess.Popen[bytes]
    said: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said.read_text().splitlines() if line.endswith("}")]

    def role(self) -> str:
        lines = [line["event"] for line in self.lines() if line["event"] != "folding"]
        return lines[-1] if lines else ""

    def has_said(self, event: str) -> bool:
        return any(line["event"] == event for line in self.lines())

    def refused(self) -> int:
        return max((line.get("refused", 0) for line in self.lines()), default=0)

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@dataclass
class Bench:
    """Topics and processes of one test."""

    bootstrap: str
    folder: Path
    name: str
    instances: list[Instance] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"{self.name}.in"

    @property
    def out(self) -> str:
        return f"{self.name}.out"

    @property
    def journal(self) -> str:
        return f"{self.name}.journal"

    def launch(self, slow_fold_s: float = 0.0) -> Instance:
        number = len(self.instances)
        said = self.folder / f"{number}.said"
        argv = [
            sys.executable,
            "-m",
            "tests.support.counting_agent",
            "--bootstrap",
            self.bootstrap,
            "--name",
            self.name,
        ]
        argv += ["--source", self.source, "--out", self.out, "--journal", self.journal]
        argv += ["--data-dir", str(self.folder / str(number)), "--slow-fold-s", str(slow_fold_s)]
        argv += ["--session-s", str(SESSION_S)]
        with said.open("wb") as stdout, (self.folder / f"{number}.log").open("wb") as stderr:
            process = subprocess.Popen(argv, stdout=stdout, stderr=stderr)
        self.instances.append(Instance(process, said))
        return self.instances[-1]

    async def until(self, condition: Any, timeout_s: float, what: str) -> float:
        """Wait for a condition; returns the seconds it took."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                logs = "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log")))
                said = "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.said")))
                pytest.fail(f"{what}: not within {timeout_s} s\n{said}\n{logs}")
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def active(self, among: list[Instance], timeout_s: float = 30.0) -> Instance:
        await self.until(lambda: any(each.role() == "active" for each in among), timeout_s, "an instance is active")
        return next(each for each in among if each.role() == "active")

    async def results(self) -> tuple[list[tuple[int, int]], int]:
        """(number, total) of each effect after the receiver's deduplication, and how many repeats that dropped."""
        seen, kept, repeats = SeenEffects(), [], 0
        for record in await KafkaLog(Connection(self.bootstrap)).read(full_name(self.out), 0):
            source = dict(record.headers)["isos-effect"].decode()
            if seen.is_repeat(source, "out/0"):
                repeats += 1
                continue
            seen.note(source, "out/0")
            number, total = (record.value or b"").decode().split()
            kept.append((int(number), int(total)))
        return kept, repeats


@contextmanager
def made_bench(bootstrap: str, folder: Path) -> Iterator[Bench]:
    bench = Bench(bootstrap, folder, unique("counter"))
    create_topics(bootstrap, *(full_name(name) for name in (bench.source, bench.out, bench.journal)))
    try:
        yield bench
    finally:
        for instance in bench.instances:
            if instance.process.poll() is None:
                instance.send_signal(signal.SIGCONT)
                instance.process.kill()
            instance.process.wait()


@asynccontextmanager
async def numbers_flow(bench: Bench, per_s: float = 40.0) -> AsyncIterator[list[int]]:
    """Send 1, 2, 3, ... until the block ends; yields the list of what was acknowledged."""
    sent: list[int] = []
    client = AIOKafkaProducer(bootstrap_servers=bench.bootstrap, acks="all", enable_idempotence=True)
    await client.start()

    async def send() -> None:
        while True:
            number = len(sent) + 1
            await client.send_and_wait(full_name(bench.source), str(number).encode(), partition=0)
            sent.append(number)
            await asyncio.sleep(1 / per_s)

    task = asyncio.create_task(send())
    try:
        yield sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.stop()


async def check_everything_once(bench: Bench, sent: list[int]) -> None:
    """Every number has one effect, in order, with the total that only one uninterrupted agent would have."""
    kept: list[tuple[int, int]] = []
    deadline = time.monotonic() + 30
    while len(kept) < len(sent) and time.monotonic() < deadline:
        kept, _ = await bench.results()
    # The sender may have been interrupted between writing a number and noting it.
    assert [number for number, _ in kept][: len(sent)] == sent
    assert len(kept) - len(sent) in (0, 1)
    assert [total for _, total in kept] == [n * (n + 1) // 2 for n in range(1, len(kept) + 1)]


@pytest.mark.timeout(180)
async def test_slow_fold_and_rebalance_then_kill(bootstrap: str, tmp_path: Path) -> None:
    with made_bench(bootstrap, tmp_path) as bench:
        async with numbers_flow(bench) as sent:
            first = bench.launch(SLOW_FOLD_S)
            await bench.until(lambda: first.has_said("folding"), 30, "the first instance folds")
            second = bench.launch(SLOW_FOLD_S)
            # The fold outlasts the session; without heartbeats during it, nobody would ever become active and stay so.
            for _ in range(4):  # a machine that starves a process for a session takes the assignment from it, rightly
                active = await bench.active([first, second], 60)
                await asyncio.sleep(2 * SESSION_S)  # so long it must stay so
                if active.role() == "active":
                    break
            assert active.role() == "active"
            standby = second if active is first else first
            active.send_signal(signal.SIGKILL)
            took = await bench.until(lambda: standby.role() == "active", 40, "the standby takes over after a kill")
            assert took < SESSION_S + SLOW_FOLD_S + 10
            count = len(sent)
            await bench.until(lambda: len(sent) > count + 40, 20, "numbers flow on")
        await check_everything_once(bench, sent)


async def freeze_the_active(bench: Bench, pair: list[Instance]) -> Instance:
    """Freeze the active one until the other has taken over for 5 s, wake it, and give it when it has stepped back."""
    frozen = await bench.active(pair)
    successor = pair[1] if frozen is pair[0] else pair[0]
    frozen.send_signal(signal.SIGSTOP)
    await bench.until(lambda: successor.role() == "active", 15, "the successor takes over")
    await asyncio.sleep(5)  # the length of the fault
    frozen.send_signal(signal.SIGCONT)
    await bench.until(lambda: frozen.role() != "active", 20, "the woken instance steps back")
    return frozen


@pytest.mark.timeout(180)
async def test_a_frozen_instance_is_shut_out(bootstrap: str, tmp_path: Path) -> None:
    with made_bench(bootstrap, tmp_path) as bench:
        async with numbers_flow(bench) as sent:
            pair = [bench.launch(), bench.launch()]
            await bench.active(pair)
            await bench.until(lambda: len(sent) > 100, 20, "numbers flow")
            # A woken instance may hear of its eviction before it writes; one with a write under way is refused.
            for _ in range(4):
                frozen = await freeze_the_active(bench, pair)
                if frozen.refused():
                    break
            assert frozen.refused() >= 1, "no woken instance's write was refused"
            count = len(sent)
            await bench.until(lambda: len(sent) > count + 100, 20, "numbers flow on")
            await bench.active(pair, 20)
        await check_everything_once(bench, sent)
