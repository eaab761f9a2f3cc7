"""Who is told that memory is silent, and by whose heartbeats: the loop's part; the rule is in ``agents.freshness``."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from agents.freshness import FreshnessParams
from infra.memory_age import TOPIC, MemoryAge
from schemas.telemetry import Heartbeat
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.frame_effects import MemorySilent
from streams.memory_view import MemoryView
from streams.partition_log import LogRecord
from streams.takeover import HeldPartition
from tests.support.control import SECOND

CODEC = Codec(SchemaIds.local())
BOUND = 10


class Router:
    """A process with partitions, memory and a clock."""

    def __init__(self, *partitions: int) -> None:
        self.second = 1_000
        self.memory = SimpleNamespace(view=MemoryView(sequence=5))
        self.held = [self.holds(partition) for partition in partitions]
        memory: Any = self.memory
        self.age = MemoryAge(
            Connection("nowhere:1"), CODEC, None, memory, lambda: self.held, FreshnessParams(BOUND * SECOND),
            clock_us=lambda: self.second * SECOND,
        )  # fmt: skip

    def holds(self, partition: int, *, ready: bool = True) -> HeldPartition:
        held = HeldPartition("isos.inference.admitted.v1", partition, 1)
        if ready:
            held.ready.set()
        return held

    def run(self, seconds: int, *records: LogRecord) -> None:
        for _ in range(seconds):
            self.second += 1
            self.age.take(records)
            self.age.look()

    def news(self) -> list[list[bool]]:
        """What each partition was told so far: whether memory is silent."""
        assert all(isinstance(each, MemorySilent) for held in self.held for each in held.news)
        return [[each.on for each in held.news] for held in self.held]


def beat(name: str = "orchestrator-0", sequence: int = 5, value: bytes | None = None) -> LogRecord:
    role, _, instance = name.partition("-")
    told = Heartbeat(role, int(instance), 7, 1, 2, sequence, ())
    value = CODEC.encode(TOPIC, told) if value is None else value
    return LogRecord(1, name.encode(), value, ())


def test_every_partition_is_told_of_silence_once_and_of_its_end() -> None:
    router = Router(0, 1)
    router.run(BOUND - 1)
    assert router.news() == [[], []]
    router.run(5)
    assert router.news() == [[True], [True]]
    router.run(3, beat())
    assert router.news() == [[True, False], [True, False]]


def test_a_partition_that_comes_while_memory_is_silent_is_told_when_it_is_ready() -> None:
    router = Router(0)
    router.run(BOUND + 1)
    late = router.holds(1, ready=False)
    router.held.append(late)
    router.run(1)
    assert router.news() == [[True], []]
    late.ready.set()
    router.run(2)
    assert router.news() == [[True], [True]]
    late.news.clear()
    late.num_runs += 1  # its run gave up and begins anew
    router.run(1)
    assert router.news() == [[True], [True]]


@pytest.mark.parametrize(
    "record", [beat("router-0"), beat("control-0"), beat(sequence=6), beat(sequence=0), beat(value=b"rubbish")]
)
def test_no_other_record_is_a_sign_of_life(record: LogRecord) -> None:
    router = Router(0)
    router.run(BOUND + 1, record)
    assert router.news() == [[True]]


def test_heartbeats_of_memorys_writer_keep_it_fresh() -> None:
    router = Router(0)
    router.run(10 * BOUND, beat("router-0"), beat("orchestrator-1"))
    assert (router.news(), router.age.level) == ([[]], "fresh")


def test_the_log_hears_of_half_the_bound_of_the_bound_and_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    router = Router()
    with caplog.at_level(logging.INFO):
        router.run(BOUND + 5)
        router.run(2, beat())
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        (
            "WARNING",
            "nothing was heard of memory for 5 s: rows go on by the last plans, and after 10 s they are refused",
        ),
        ("ERROR", "nothing was heard of memory for 10 s: every row is refused until something is"),
        ("INFO", "memory is heard again"),
    ]
