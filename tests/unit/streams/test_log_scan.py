"""Scans of a partition, with a consumer whose log is a list; the broker is in the integration tests of its users."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streams import log_scan
from streams.connection import Connection, UnreachableError
from streams.log_scan import LogScan, name

PLACE = TopicPartition("t", 0)


class ListConsumer:
    """Holds offsets; the log ends at ``end``, behind them there are only markers nobody sees."""

    def __init__(self, offsets: list[int], end: int, *, stall: bool = False) -> None:
        self.offsets, self.end, self.stall = offsets, end, stall
        self.at = -1
        self.assigned: set[TopicPartition] = set()
        self.error: Exception | None = None
        self.stopped = False

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        self.stopped = True

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = set(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at = offset

    async def position(self, place: TopicPartition) -> int:
        return self.at

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.offsets[0])

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        (wanted,) = times.values()
        found = next((each for each in self.offsets if each * 10 >= wanted), None)
        return dict.fromkeys(times, None if found is None else SimpleNamespace(offset=found))

    async def getmany(self, place: TopicPartition, *, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        if self.error is not None:
            raise self.error
        if self.stall:
            return {}
        due = [offset for offset in self.offsets if offset >= self.at][:2]
        self.at = due[-1] + 1 if due else self.end
        return {place: [SimpleNamespace(offset=offset) for offset in due]} if due else {}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ListConsumer:
    consumer = ListConsumer([3, 4, 6, 7], 10)
    monkeypatch.setattr(log_scan, "consumer", lambda connection, **settings: consumer)
    return consumer


async def scanned(first: int, end: int, until: int = 99) -> tuple[list[int], list[int]]:
    seen: list[int] = []
    steps: list[int] = []

    def take(record: Any) -> bool:
        seen.append(record.offset)
        return bool(record.offset < until)

    async with LogScan(Connection("127.0.0.1:1")) as scan:
        await scan.scan(PLACE, first, end, take, steps.append)
    return seen, steps


async def test_a_scan_reads_what_is_asked_for_and_ends_behind_markers(made: ListConsumer) -> None:
    assert await scanned(3, 10) == ([3, 4, 6, 7], [5, 8, 10])
    assert await scanned(4, 7) == ([4, 6], [7])
    assert await scanned(5, 5) == ([], [])
    assert made.stopped


async def test_the_reader_may_want_no_more(made: ListConsumer) -> None:
    assert await scanned(3, 10, until=4) == ([3, 4], [])


async def test_bounds_and_times(made: ListConsumer) -> None:
    async with LogScan(Connection("127.0.0.1:1")) as scan:
        assert await scan.bounds(PLACE) == (3, 10)
        assert [await scan.at_time(PLACE, time_ms) for time_ms in (-5, 41, 71)] == [3, 6, None]
    assert made.assigned == {PLACE}


async def test_errors_are_those_of_a_broker_that_does_not_answer(
    made: ListConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.error = KafkaConnectionError("gone")
    with pytest.raises(UnreachableError, match="reading t-0 failed: KafkaConnectionError: gone"):
        await scanned(3, 10)
    made.error, made.stall = None, True
    monkeypatch.setattr(log_scan, "STALL_TIMEOUT_S", 0.0)
    monkeypatch.setattr(log_scan, "bounded", lambda awaitable, seconds, what: awaitable)
    with pytest.raises(UnreachableError, match="nothing arrived for 0 s"):
        await scanned(3, 10)
    with pytest.raises(UnreachableError, match="it is not open"):
        await LogScan(Connection("127.0.0.1:1")).bounds(PLACE)


async def test_markers_are_asked_for_with_checksums_left_to_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def make(connection: Connection, **settings: Any) -> ListConsumer:
        asked.append(settings)
        return ListConsumer([0], 1)

    monkeypatch.setattr(log_scan, "consumer", make)
    monkeypatch.setattr(log_scan, "deliver_markers", asked.append)
    async with LogScan(Connection("127.0.0.1:1"), markers=True):
        assert asked[0]["check_crcs"] is False
        assert isinstance(asked[1], ListConsumer)
    async with LogScan(Connection("127.0.0.1:1")):
        assert "check_crcs" not in asked[2]
    assert len(asked) == 3


def test_names() -> None:
    assert name(PLACE) == "t-0"
