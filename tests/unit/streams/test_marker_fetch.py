"""The exchanged fetcher gives aiokafka's records, and says where the markers are."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, Fetcher, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from streams.errors import InvariantError
from streams.marker_fetch import MarkedRecords, Marker, MarkerFetcher, deliver_markers
from streams.record_columns import Record
from tests.support.record_batches import record_batches

PLACE = TopicPartition("t", 0)
ABORT = struct.pack(">hh", 0, 0)


def record(offset: int) -> Record:
    return Record("t", 0, offset, 5, b"k", b"value", ())


def log(first: int = 0) -> bytes:
    """Records on 0, 1, 3, 4; a marker on 2 and on 5. What a broker sends for an offset: from its batch on."""
    marker = [Record("t", 0, offset, 5, ABORT, bytes(6), ()) for offset in (2, 5)]
    parts = [record_batches([record(0), record(1)])]
    parts.append(record_batches([marker[0]], transactional=True, producer_id=7, attributes=0x20))
    parts.append(record_batches([record(3), record(4)], producer_id=7))
    parts.append(record_batches([marker[1]], transactional=True, producer_id=7, attributes=0x20))
    return b"".join(part for part, end in zip(parts, (2, 3, 5, 6), strict=True) if end > first)


def read(data: bytes, first: int = 0, *, check_crcs: bool = False) -> tuple[list[Any], int]:
    made = MarkedRecords(PLACE, MemoryRecords(data), [], first, None, None, check_crcs, READ_UNCOMMITTED)
    return list(made), made.next_fetch_offset


def test_markers_stand_among_the_records() -> None:
    found, behind = read(log())
    assert [(type(each) is Marker, each.offset) for each in found] == [
        (False, 0), (False, 1), (True, 2), (False, 3), (False, 4), (True, 5),
    ]  # fmt: skip
    assert behind == 6


def test_records_are_those_of_aiokafka() -> None:
    for first in range(6):
        plain = PartitionRecords(PLACE, MemoryRecords(log(first)), [], first, None, None, False, READ_UNCOMMITTED)
        found, behind = read(log(first), first)
        assert [each for each in found if type(each) is not Marker] == list(plain)
        assert behind == plain.next_fetch_offset
        assert all(each.offset >= first for each in found)


def test_a_wrong_checksum_is_an_error_where_it_is_looked_at() -> None:
    bad = log().replace(b"value", b"vAlue")
    with pytest.raises(CorruptRecordException):
        read(bad, check_crcs=True)
    assert read(bad)[0][0].value == b"vAlue"


def consumer(kind: type = Fetcher, isolation: int = READ_UNCOMMITTED) -> Any:
    fetcher = kind.__new__(kind)
    fetcher._isolation_level = isolation
    return SimpleNamespace(_fetcher=fetcher)


def test_only_the_known_fetcher_is_exchanged_and_only_one_that_reads_all() -> None:
    made = consumer()
    deliver_markers(made)
    assert type(made._fetcher) is MarkerFetcher
    with pytest.raises(InvariantError, match="not the one of 0.14.0"):
        deliver_markers(made)
    with pytest.raises(InvariantError, match="reads uncommitted"):
        deliver_markers(consumer(isolation=READ_COMMITTED))


def test_aiokafka_is_the_one_whose_private_names_are_used() -> None:
    assert aiokafka.__version__ == "0.14.0"
    assert "PartitionRecords" in Fetcher._proc_fetch_request.__code__.co_names
