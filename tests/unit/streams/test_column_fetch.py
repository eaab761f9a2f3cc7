"""The exchanged fetcher gives what aiokafka's own would, and fetches on demand."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as upstream
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, Fetcher, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import column_fetch
from streams.column_fetch import ColumnFetcher, FetchedBytes, PartitionColumns, deliver_columns
from streams.errors import InvariantError
from streams.record_columns import Record
from tests.support.record_batches import record_batches

PLACE = TopicPartition("t", 2)
ABORT, COMMIT = (struct.pack(">hh", 0, number) for number in (0, 1))
KINDS = ("plain", "compressed", "committed", "aborted", "idempotent")


@dataclass(frozen=True)
class Log:
    """Bytes of a log, and the aborted transactions (producer, first offset) that a broker names with them."""

    data: bytes
    aborted: list[tuple[int, int]]
    end: int


@st.composite
def logs(draw: st.DrawFn) -> Log:
    offset, data = draw(st.integers(0, 1000)), b""
    aborted: list[tuple[int, int]] = []
    for producer in range(draw(st.integers(1, 6))):
        kind, count = draw(st.sampled_from(KINDS)), draw(st.integers(1, 4))
        records = [
            Record("t", 2, offset + n, 5000 + n, b"k", bytes([producer]) * 40, (("h", b"x"),)) for n in range(count)
        ]
        data += record_batches(
            records,
            compression=int(kind == "compressed"),
            transactional=kind in ("committed", "aborted"),
            producer_id=-1 if kind in ("plain", "compressed") else producer,
        )
        if kind == "aborted":
            aborted.append((producer, offset))
        offset += count
        if kind in ("committed", "aborted"):
            marker = Record("t", 2, offset, 5000, ABORT if kind == "aborted" else COMMIT, bytes(6), ())
            data += record_batches([marker], transactional=True, producer_id=producer, attributes=0x20)
            offset += 1
        offset += draw(st.integers(0, 2))
    return Log(data, aborted, offset)


def outcome(iterated: Any) -> tuple[list[Any], int]:
    """Everything read, and the offset to go on at."""
    found = list(iterated)
    if found and not hasattr(found[0], "offset"):
        found = [piece.record(at) for piece in found for at in range(len(piece))]
    return [(e.topic, e.partition, e.offset, e.timestamp, e.key, e.value, tuple(e.headers)) for e in found], (
        iterated.next_fetch_offset
    )


@settings(max_examples=60, deadline=None)
@given(logs(), st.integers(0, 12), st.sampled_from((READ_COMMITTED, READ_UNCOMMITTED)), st.booleans())
def test_columns_hold_what_aiokafka_reads(log: Log, skipped: int, isolation: int, check_crcs: bool) -> None:
    given = ([*log.aborted], skipped, None, None, check_crcs, isolation)
    expected = outcome(PartitionRecords(PLACE, MemoryRecords(log.data), *given))
    assert outcome(PartitionColumns(PLACE, FetchedBytes(log.data), *given)) == expected


def test_a_wrong_checksum_is_an_error_behind_what_is_sound() -> None:
    good, bad = (record_batches([Record("t", 2, n, 5, None, b"value", ())]) for n in range(2))
    bad = bad.replace(b"value", b"vAlue")
    for data, found in ((good + bad, 1), (bad, 0)):
        pieces = PartitionColumns(PLACE, FetchedBytes(data), [], 0, None, None, True, READ_COMMITTED)
        with pytest.raises(CorruptRecordException):
            list(pieces)
        assert pieces.next_fetch_offset == found
    unchecked = PartitionColumns(PLACE, FetchedBytes(bad), [], 0, None, None, False, READ_COMMITTED)
    assert [len(piece) for piece in unchecked] == [1]


def test_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within a batch: whoever stops between two pieces goes on there."""
    monkeypatch.setattr(column_fetch, "MAX_RECORDS", 5)
    sizes = [3, 3, 12, 1]
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    batches = [
        record_batches([Record("t", 2, start + n, 5, None, b"v", ()) for n in range(size)])
        for start, size in zip(starts, sizes, strict=True)
    ]

    def pieces(first: int) -> PartitionColumns:
        """What a broker sends for an offset: whole batches, from the one that holds it on."""
        sent = b"".join(
            [batch for start, size, batch in zip(starts, sizes, batches, strict=True) if start + size > first]
        )
        return PartitionColumns(PLACE, FetchedBytes(sent), [], first, None, None, False, READ_COMMITTED)

    iterated = pieces(0)
    found = [(piece.first, piece.end, iterated.next_fetch_offset) for piece in iterated]
    assert found == [(0, 5, 5), (5, 6, 6), (6, 11, 11), (11, 16, 16), (16, 18, 18), (18, 19, 19)]
    for first in range(19):
        again = pieces(first)
        assert next(again).first == first


def test_aiokafka_is_the_one_whose_private_names_are_used() -> None:
    """Another release needs another look at ``streams.column_fetch``: what it exchanges, and whom it calls."""
    assert aiokafka.__version__ == "0.14.0"
    names = Fetcher._proc_fetch_request.__code__.co_names
    assert {"MemoryRecords", "PartitionRecords", "FetchResult"} <= set(names)
    assert all(hasattr(upstream, name) for name in ("MemoryRecords", "PartitionRecords"))
    assert "self._get_actions_per_node" in _source(Fetcher._fetch_requests_routine)
    assert "self._proc_fetch_request" in _source(Fetcher._fetch_requests_routine)


def _source(function: Any) -> str:
    import inspect

    return inspect.getsource(function)


class FakeConsumer:
    """Has a fetcher that was never started."""

    def __init__(self, kind: type = Fetcher) -> None:
        self._fetcher = kind.__new__(kind)
        self._fetcher.__dict__.update(dict.fromkeys(("_records", "_wait_consume_future")))


def test_a_fetcher_of_another_kind_is_refused() -> None:
    class Changed:
        _records = None

    with pytest.raises(InvariantError, match=r"0\.14\.0"):
        deliver_columns(FakeConsumer(Changed))
    consumer = FakeConsumer()
    del consumer._fetcher._wait_consume_future
    with pytest.raises(InvariantError, match=r"0\.14\.0"):
        deliver_columns(consumer)


async def test_a_fetch_goes_out_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetcher, "_get_actions_per_node", lambda self, _: (["fetch"], {"reset": 1}, 0.2, False, []))
    fetched: list[dict[str, int]] = [{}, {"place": 1}]

    async def fetched_records(*_: Any) -> dict[str, int]:
        return fetched.pop(0)

    monkeypatch.setattr(Fetcher, "fetched_records", fetched_records)
    consumer = FakeConsumer()
    ask = deliver_columns(consumer, on_demand=True)
    fetcher: Any = consumer._fetcher
    assert isinstance(fetcher, ColumnFetcher)

    def sent() -> list[str]:
        requests: list[str] = fetcher._get_actions_per_node(None)[0]
        return requests

    fetcher._wait_consume_future = asyncio.get_running_loop().create_future()
    ask()
    assert (sent(), await fetcher.fetched_records(()), sent()) == (
        ["fetch"],
        {},
        ["fetch"],
    )  # one more, for it was idle
    ask()  # again, after a time-out, with that one under way
    assert (await fetcher.fetched_records(()), sent()) == ({"place": 1}, [])  # nothing behind what was handed on
    assert fetcher._get_actions_per_node(None)[1] == {"reset": 1}  # anything but fetches goes on
    assert not fetcher._wait_consume_future.done()
    ask()
    assert fetcher._wait_consume_future.done()
    assert sent() == ["fetch"]


async def test_without_demand_fetches_are_as_aiokafka_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched_records(*_: Any) -> dict[str, int]:
        return {"place": 1}

    monkeypatch.setattr(Fetcher, "_get_actions_per_node", lambda self, _: (["fetch"], {}, 0.2, False, []))
    monkeypatch.setattr(Fetcher, "fetched_records", fetched_records)
    deliver_columns(other := FakeConsumer())
    fetcher: Any = other._fetcher
    assert (await fetcher.fetched_records(()), fetcher._get_actions_per_node(None)[0]) == ({"place": 1}, ["fetch"])
