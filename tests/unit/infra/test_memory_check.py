"""What a look at the two topics makes of them, and two looks of a memory that changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from infra import memory_check
from infra.memory_check import EVENTS_PLACE, STATE_PLACE, check_memory, look, settled, state_record
from schemas.memory import MemoryEntry
from streams.chain_check import EVENTS, STATE, ChainCheck, StateRecord
from streams.connection import Connection
from streams.link_check import Finding
from streams.marker_fetch import Marker
from tests.unit.streams.test_chain_check import CODEC, DECODE, LOG, states_of

NOWHERE = Connection("127.0.0.1:1")
GOOD = {key: state.entry for key, state in states_of(LOG).items()}


def records(*values: tuple[bytes | None, bytes | None] | None) -> list[Any]:
    """Records by offset; None is a marker."""
    return [
        Marker(offset) if each is None else SimpleNamespace(offset=offset, key=each[0], value=each[1])
        for offset, each in enumerate(values)
    ]


def state(entries: dict[str, MemoryEntry | None]) -> list[Any]:
    encoded = [(key.encode(), each and CODEC.encode(STATE, each)) for key, each in entries.items()]
    return records(None, *encoded)


class Scans:
    """Stands in for ``LogScan``: each opening takes the next pair of logs (events, state)."""

    def __init__(self, *looks: tuple[list[Any], list[Any]]) -> None:
        self.looks = list(looks)
        self.markers: list[bool] = []

    def __call__(self, connection: Connection, *, markers: bool) -> Scans:
        self.markers.append(markers)
        return self

    async def __aenter__(self) -> Scans:
        events, states = self.looks.pop(0)
        self.logs = {EVENTS_PLACE: events, STATE_PLACE: states}
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def bounds(self, place: TopicPartition) -> tuple[int, int]:
        return 0, len(self.logs[place])

    async def scan(
        self, place: TopicPartition, first: int, end: int, take: Callable[[Any], bool], step: Callable[[int], None]
    ) -> None:
        for each in self.logs[place][first:end]:
            assert take(each)
        step(end)


EVENT_LOG = records(None, *((b"k", value) for value in LOG))


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scans]:
    async def ids(connection: Connection) -> Any:
        return CODEC.ids

    monkeypatch.setattr(memory_check, "read_schema_ids", ids)

    def use(*looks: tuple[list[Any], list[Any]]) -> Scans:
        made = Scans(*looks)
        monkeypatch.setattr(memory_check, "LogScan", made)
        return made

    return use


async def test_one_look_is_enough_when_nothing_is_wrong(scans: Any) -> None:
    made, told = scans((EVENT_LOG, state(GOOD))), []
    report = await check_memory(NOWHERE, None, lambda *progress: told.append(progress))
    assert (report.faults, report.voids, report.num_markers, report.num_records) == ((), (), 1, 5)
    assert (report.head.sequence, report.head_offset, made.markers) == (5, 5, [True])
    assert told == [(EVENTS, 6, 6), (STATE, 1 + len(GOOD), 1 + len(GOOD))]


async def test_a_state_that_lags_only_in_the_first_look_is_none_of_the_faults(scans: Any) -> None:
    scans((EVENT_LOG, state({})), (EVENT_LOG, state(GOOD)))
    assert (await check_memory(NOWHERE, None, lambda *_: None)).faults == ()


async def test_a_state_that_is_wrong_in_both_looks_is(scans: Any) -> None:
    wrong = {"gone": MemoryEntry("gone", 1, 2, "1", 3), **GOOD}
    scans((EVENT_LOG, state(wrong)), (EVENT_LOG, state(wrong)))
    (fault,) = (await check_memory(NOWHERE, None, lambda *_: None)).faults
    assert (fault.topic, fault.offset, fault.sequence) == (STATE, 1, 2)


async def test_a_look_takes_the_newest_state_and_says_of_what_it_cannot_read(scans: Any) -> None:
    made = scans((EVENT_LOG, records((b"x", b"old"), (b"x", None), (b"y", b"?"))))
    report = await look(NOWHERE, CODEC, (), lambda *_: None)
    found = {each.what.partition(":")[0] for each in report.faults}
    assert found == {*GOOD, "y"}
    assert not made.looks


def test_two_reports() -> None:
    check = ChainCheck(DECODE)
    first = check.report(0, {})
    broken, lags, news = (Finding(topic, 1, 1, "x") for topic in (EVENTS, STATE, STATE))
    news = dataclasses.replace(news, offset=2)
    second = dataclasses.replace(first, faults=(broken, lags, news))
    assert settled(dataclasses.replace(first, faults=(lags,)), second).faults == (broken, lags)


def test_records_of_the_state() -> None:
    entry = MemoryEntry("k", 1, 2, "{}", 3)
    assert state_record(CODEC, 4, CODEC.encode(STATE, entry)) == StateRecord(4, entry)
    assert state_record(CODEC, 5, None) == StateRecord(5, None)
    assert "00 and a schema id" in state_record(CODEC, 6, b"?").problem
