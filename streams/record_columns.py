"""Fetched records as columns: record batches (magic 2) are read by compiled code, no object per record.

``read_batches`` walks the batches of a fetched piece of a log as far as they are plain: magic 2, neither compressed nor
transactional nor a control batch, and well-formed to the last byte. Whoever calls it gives the others to the client
library's own reader and joins what comes (``RecordColumns.of``). Layout of a batch: KIP-98.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streams.varint import read_long, write_bytes, write_long

OFFSET, TIMESTAMP, KEY, KEY_END, VALUE, VALUE_END, HEADERS, HEADERS_END = range(8)
"""Rows of ``RecordColumns.table``."""
NUM_COLUMNS: Final = 8
HEADER_BYTES: Final = 61
LOG_OVERHEAD: Final = 12

Array = NDArray[Any]
Int = Any
"""A machine integer inside compiled code."""
_BYTES: Final = "Array(uint8, 1, 'C', readonly=True)"


@dataclass(frozen=True, slots=True)
class Record:
    """One record, as the client library gives it. ``timestamp`` in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records of one partition in the order of their offsets; never empty.

    ``table``: int64 [8, n]. ``OFFSET``; ``TIMESTAMP`` in ms; first index and end of key, value and headers in ``data``.
    A key or value that is null has the first index -1.
    """

    topic: str
    partition: int
    data: bytes
    table: Array

    def __len__(self) -> int:
        return int(self.table.shape[1])

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return int(self.table[OFFSET, 0])

    @property
    def end(self) -> int:
        """Offset behind the last record."""
        return int(self.table[OFFSET, -1]) + 1

    def record(self, at: int) -> Record:
        """The record at an index."""
        offset, timestamp, key, key_end, value, value_end, headers, headers_end = self.table[:, at].tolist()
        data = self.data
        return Record(
            self.topic,
            self.partition,
            offset,
            timestamp,
            None if key < 0 else data[key:key_end],
            None if value < 0 else data[value:value_end],
            _headers(data[headers:headers_end]),
        )

    @classmethod
    def of(cls, topic: str, partition: int, records: Sequence[Any]) -> RecordColumns:
        """Columns of records that the client library has read."""
        parts: list[bytes] = []
        table = np.empty((NUM_COLUMNS, len(records)), np.int64)
        end = 0
        for at, record in enumerate(records):
            spans = []
            for part in (record.key, record.value, _header_bytes(record.headers)):
                spans += [-1 if part is None else end, end + len(part or b"")]
                parts.append(part or b"")
                end = spans[-1]
            table[:, at] = (record.offset, record.timestamp, *spans)
        return cls(topic, partition, b"".join(parts), table)

    @classmethod
    def joined(cls, pieces: Sequence[RecordColumns]) -> RecordColumns:
        """Several pieces of one partition as one, in their order."""
        first = pieces[0]
        if len(pieces) == 1:
            return first
        if all(piece.data is first.data for piece in pieces):
            table = np.concatenate([piece.table for piece in pieces], axis=1)
            return cls(first.topic, first.partition, first.data, table)
        tables, start = [], 0
        for piece in pieces:
            table = piece.table.copy()
            spans = table[KEY:]
            spans[spans >= 0] += start
            tables.append(table)
            start += len(piece.data)
        data = b"".join([piece.data for piece in pieces])
        return cls(first.topic, first.partition, data, np.concatenate(tables, axis=1))

    def cut(self, most: int) -> Iterator[RecordColumns]:
        """The same records in pieces of at most ``most``."""
        if len(self) <= most:
            yield self
            return
        for at in range(0, len(self), most):
            table = np.ascontiguousarray(self.table[:, at : at + most])
            yield RecordColumns(self.topic, self.partition, self.data, table)


def columns_of(topic: str, partition: int, fetched: Sequence[Any]) -> RecordColumns:
    """One ``RecordColumns`` of what a consumer gave for a partition: pieces of columns, or records."""
    if isinstance(fetched[0], RecordColumns):
        return RecordColumns.joined(fetched)
    return RecordColumns.of(topic, partition, fetched)


def read_batches(
    topic: str, partition: int, data: bytes, at: int, end: int, fetch_offset: int, max_records: int
) -> tuple[RecordColumns | None, int, int]:
    """The records from ``fetch_offset`` on of the plain batches from ``at`` on, at most ``end``; at least one batch.

    Gives them (None where there are none), the index behind the last batch that was read, and the offset to go on at.
    A batch is never divided: with ``max_records`` the last one that fits is the last one read.
    """
    view = np.frombuffer(data, np.uint8)
    table = np.empty((NUM_COLUMNS, _count(view, at, end, max_records)), np.int64)
    at, num, fetch_offset = _read(view, at, end, fetch_offset, table)
    if num == 0:
        return None, at, fetch_offset
    if num < table.shape[1]:
        table = np.ascontiguousarray(table[:, :num])
    return RecordColumns(topic, partition, data, table), at, fetch_offset


def batch_end(data: bytes, at: int) -> int:
    """Index behind the batch at ``at``; -1 when the data ends before it does."""
    if len(data) - at < LOG_OVERHEAD:
        return -1
    end = at + LOG_OVERHEAD + int.from_bytes(data[at + 8 : at + 12], "big", signed=True)
    return end if at + LOG_OVERHEAD <= end <= len(data) else -1


def _headers(data: bytes) -> tuple[tuple[str, bytes | None], ...]:
    count, at = read_long(data, 0)
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        size, at = read_long(data, at)
        # Names are UTF-8 by the protocol, but no broker looks: one that is not must stop nobody.
        name = data[at : at + size].decode(errors="backslashreplace")
        at += size
        size, at = read_long(data, at)
        found.append((name, None if size < 0 else data[at : at + size]))
        at += max(0, size)
    return tuple(found)


def _header_bytes(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    parts = []
    count = 0
    for name, value in headers:
        parts += [write_bytes(name.encode()), write_long(-1) if value is None else write_bytes(value)]
        count += 1
    return write_long(count) + b"".join(parts)


@njit(f"int64({_BYTES}, int64)", cache=True, nogil=True)
def _int32(data: Array, at: Int) -> Int:
    value = (np.int64(data[at]) << 24) | (np.int64(data[at + 1]) << 16) | (np.int64(data[at + 2]) << 8) | data[at + 3]
    return value - (np.int64(1) << 32) if value >> 31 else value


@njit(f"int64({_BYTES}, int64)", cache=True, nogil=True)
def _int64(data: Array, at: Int) -> Int:
    value = np.int64(0)
    for i in range(8):
        value = (value << 8) | data[at + i]
    return value


@njit(f"UniTuple(int64, 2)({_BYTES}, int64, int64)", cache=True, nogil=True)
def _varint(data: Array, at: Int, end: Int) -> tuple[Int, Int]:
    """Zigzag varint of at most 64 bits, and the index behind it; that is -1 for one that is cut off or too long."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end:
        byte = data[at]
        at += 1
        if shift == 63 and byte > 1:
            return np.int64(0), np.int64(-1)
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += np.uint64(7)
        if shift > 63:
            break
    return np.int64(0), np.int64(-1)


@njit(f"boolean({_BYTES}, int64, int64)", cache=True, nogil=True)
def _is_plain(data: Array, at: Int, end: Int) -> Int:
    """Whether a whole batch stands at ``at`` that needs nobody but us."""
    if end - at < HEADER_BYTES or data[at + 16] != 2:
        return False
    length = _int32(data, at + 8)
    # Of the attributes: compression (0 to 2), transactional (4), control (5).
    return length >= HEADER_BYTES - LOG_OVERHEAD and at + LOG_OVERHEAD + length <= end and data[at + 22] & 0x37 == 0


@njit(f"int64({_BYTES}, int64, int64, int64)", cache=True, nogil=True)
def _count(data: Array, at: Int, end: Int, most: Int) -> Int:
    """Records that the plain batches from ``at`` on claim to hold, up to ``most`` or of one batch."""
    total = np.int64(0)
    while _is_plain(data, at, end):
        length, count = _int32(data, at + 8), _int32(data, at + 57)
        if count < 0 or count > length or (total > 0 and total + count > most):
            break
        total += count
        at += LOG_OVERHEAD + length
    return total


@njit(f"int64({_BYTES}, int64, int64)", cache=True, nogil=True)
def _skip_headers(data: Array, at: Int, end: Int) -> Int:
    """Index behind a record's headers; -1 when they do not fit."""
    count, at = _varint(data, at, end)
    if at < 0 or count < 0 or count > end - at:
        return np.int64(-1)
    for _ in range(count):
        size, at = _varint(data, at, end)
        if at < 0 or size < 0 or size > end - at:
            return np.int64(-1)
        at += size
        size, at = _varint(data, at, end)
        if at < 0 or size > end - at:
            return np.int64(-1)
        at += max(np.int64(0), size)
    return at


@njit(f"UniTuple(int64, 3)({_BYTES}, int64, int64, int64, int64[:, ::1])", cache=True, nogil=True)
def _read(data: Array, at: Int, end: Int, fetch_offset: Int, table: Array) -> tuple[Int, Int, Int]:
    """Fill ``table``; index behind the last batch read, number of records, offset to go on at."""
    num = np.int64(0)
    while _is_plain(data, at, end):
        count = _int32(data, at + 57)
        if count < 0 or num + count > table.shape[1]:
            break
        base, first_time, max_time = _int64(data, at), _int64(data, at + 27), _int64(data, at + 35)
        is_append_time = data[at + 22] & 0x08 != 0
        batch = at + LOG_OVERHEAD + _int32(data, at + 8)
        place, kept, next_offset = at + HEADER_BYTES, num, fetch_offset
        for _ in range(count):
            size, place = _varint(data, place, batch)
            if place < 0 or size < 1 or size > batch - place:
                place = np.int64(-1)
                break
            stop = place + size
            delta, place = _varint(data, place + 1, stop)
            if place < 0:
                break
            step, place = _varint(data, place, stop)
            if place < 0:
                break
            size, place = _varint(data, place, stop)
            if place < 0 or size > stop - place:
                place = np.int64(-1)
                break
            key = place if size >= 0 else np.int64(-1)
            place += max(np.int64(0), size)
            key_end = place
            size, place = _varint(data, place, stop)
            if place < 0 or size > stop - place:
                place = np.int64(-1)
                break
            value = place if size >= 0 else np.int64(-1)
            place += max(np.int64(0), size)
            value_end = place
            place = _skip_headers(data, place, stop)
            if place != stop:
                place = np.int64(-1)
                break
            offset = base + step
            if offset < next_offset:
                continue  # in front of the position: the broker sends whole batches
            table[OFFSET, kept] = offset
            table[TIMESTAMP, kept] = max_time if is_append_time else first_time + delta
            table[KEY, kept], table[KEY_END, kept] = key, key_end
            table[VALUE, kept], table[VALUE_END, kept] = value, value_end
            table[HEADERS, kept], table[HEADERS_END, kept] = value_end, stop
            next_offset = offset + 1
            kept += 1
        if place != batch:
            break
        # The last offset stays in the header when compaction removes the last record.
        num, at, fetch_offset = kept, batch, base + _int32(data, at + 23) + 1
    return at, num, fetch_offset
