"""Searching results: windows from the end, the newest of an id, the one of a place, letters of a coordinate."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas.coordinate import RecordCoordinate
from streams import result_search
from streams.errors import PoisonRecordError
from streams.ledger import SOURCE, SOURCE_HEADER
from streams.letters.letter import Letter
from streams.result_search import LETTERS, REQUESTS, RESULTS, ResultSearch, windows

TOPIC_ID = bytes(range(16))


def record(offset: int, key: bytes, headers: Any = (), value: bytes | None = b"v", timestamp: int = 0) -> Any:
    return SimpleNamespace(
        offset=offset, key=key, headers=headers, value=value, timestamp=timestamp or offset * 1000, partition=0
    )


def result(offset: int, key: bytes, source: tuple[bytes, int, int], timestamp: int = 0) -> Any:
    return record(offset, key, ((SOURCE_HEADER, SOURCE.pack(*source)),), timestamp=timestamp)


class Scans:
    """A scan over lists of records; ``reads`` are the spans that were asked for."""

    def __init__(self, logs: dict[TopicPartition, list[Any]]) -> None:
        self.logs = logs
        self.reads: list[tuple[int, int, int]] = []

    async def bounds(self, place: TopicPartition) -> tuple[int, int]:
        log = self.logs.get(place, [])
        return (log[0].offset, log[-1].offset + 1) if log else (0, 0)

    async def at_time(self, place: TopicPartition, time_ms: int) -> int | None:
        return next((each.offset for each in self.logs.get(place, []) if each.timestamp >= time_ms), None)

    async def scan(
        self, place: TopicPartition, first: int, end: int, take: Callable[[Any], bool], step: Any = None
    ) -> None:
        self.reads.append((place.partition, first, end))
        for each in self.logs.get(place, []):
            if first <= each.offset < end and not take(each):
                return
        if step is not None:
            step(end)


def search(logs: dict[TopicPartition, list[Any]]) -> tuple[ResultSearch, Scans, list[tuple[str, int, int]]]:
    scans, told = Scans(logs), []
    return ResultSearch(scans, TOPIC_ID, lambda *progress: told.append(progress)), scans, told  # type: ignore[arg-type]


@given(st.integers(0, 50), st.integers(0, 200), st.integers(1, 60))
def test_windows_cover_a_span_once_from_its_end(first: int, length: int, size: int) -> None:
    pieces = list(windows(first, first + length, size))
    assert [at for start, end in reversed(pieces) for at in range(start, end)] == list(range(first, first + length))
    assert all(end - start <= size for start, end in pieces)


@pytest.fixture
def two_partitions(monkeypatch: pytest.MonkeyPatch) -> dict[TopicPartition, list[Any]]:
    """Ten results each, ids r0 to r9, and ``twice`` on 2 and 7 of the second."""
    monkeypatch.setattr(result_search, "windows", lambda first, end: windows(first, end, 3))
    logs = {
        TopicPartition(RESULTS, n): [result(at, b"r%d-%d" % (n, at), (TOPIC_ID, n, at)) for at in range(10)]
        for n in range(2)
    }
    for at in (2, 7):
        logs[TopicPartition(RESULTS, 1)][at].key = b"twice"
    return logs


async def test_by_id_reads_from_the_end_and_no_further_than_needed(two_partitions: Any) -> None:
    made, scans, told = search(two_partitions)
    found = await made.by_id("r0-5", 2, 0, lambda each: True)
    assert (found.key, found.offset) == (b"r0-5", 5)
    assert scans.reads == [(0, 7, 10), (1, 7, 10), (0, 4, 7), (1, 4, 7)]
    assert told[-1] == ("results, newest first", 12, 20)


async def test_by_id_takes_the_newest_that_matches(two_partitions: Any) -> None:
    made, _, _ = search(two_partitions)
    assert (await made.by_id("twice", 2, 0, lambda each: True)).offset == 7
    assert (await made.by_id("twice", 2, 0, lambda each: bool(each.offset < 5))).offset == 2
    assert await made.by_id("nobody", 2, 0, lambda each: True) is None


async def test_by_id_has_a_bound(two_partitions: Any) -> None:
    made, scans, told = search(two_partitions)
    assert await made.by_id("r0-5", 2, 7, lambda each: True) is None
    assert scans.reads == [(0, 7, 10), (1, 7, 10), (0, 6, 7), (1, 6, 7)]
    assert told[-1] == ("results, newest first", 8, 8)


async def test_by_place_reads_from_the_time_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_search, "SKEW_MS", 0)
    other = bytes(16)
    log = [result(at, b"k", (TOPIC_ID if at % 2 else other, 1, 40 + at // 2)) for at in range(10)]
    made, scans, told = search({TopicPartition(RESULTS, 1): log})
    assert (await made.by_place(1, 43, 4000)).offset == 7
    assert scans.reads == [(1, 4, 10)]
    assert await made.by_place(1, 41, 4000) is None
    assert told == [("results", 6, 6)]
    assert (await made.by_place(1, 41, None)).offset == 3
    assert await made.by_place(1, 43, 99_000) is None


async def test_the_request_itself() -> None:
    made, _, _ = search({TopicPartition(REQUESTS, 0): [record(5, b"a"), record(7, b"b")]})
    assert (await made.request(0, 5)).key == b"a"
    assert [await made.request(0, offset) for offset in (4, 6, 8)] == [None, None, None]


async def test_letters_of_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_search, "SKEW_MS", 0)
    monkeypatch.setattr(result_search, "LETTER_MS", 2000)

    def letter(offset: int, at: int, topic_id: bytes | None) -> Any:
        made = Letter.bare(RecordCoordinate(REQUESTS, 0, at), b"big", PoisonRecordError("garbage", "no"))
        value, key, headers = made.fields("edge", topic_id)
        return record(offset, key, tuple(headers), value)

    log = [letter(0, 5, TOPIC_ID), letter(1, 5, TOPIC_ID), letter(2, 6, TOPIC_ID), letter(3, 5, bytes(16))]
    log += [letter(4, 5, None), record(5, f"{REQUESTS}/0/5".encode(), (("isos-redriven-to", b"x"),), None)]
    log += [letter(6, 5, TOPIC_ID)]
    made, scans, _ = search({LETTERS: log})
    found = await made.letters(TOPIC_ID, 0, 5, 1000, 4000)
    assert [(each.topic_id, each.value, each.code) for each in found] == [
        (TOPIC_ID, None, "garbage"),
        (None, None, "garbage"),
    ]
    assert scans.reads == [(0, 1, 6)]
    assert len(await made.letters(TOPIC_ID, 0, 5, 0, 99_000)) == 4
