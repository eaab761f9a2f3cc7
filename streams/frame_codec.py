"""InferenceFrame to bytes and back without a schema walk: the hot path's codec for our own schema of the frame.

Writes the same bytes as the generic codec (a test holds them equal) by splicing primitives, and what it read as it
stood there (``streams.splice``); reads field by field with the same bounds: every length lies inside the value and the
value is consumed to its last byte. A frame written with another registered schema goes through the generic codec.

Names repeat from frame to frame, so what stands for them is kept: runs of bytes that were read field by field once are
recognised as a whole. Equal bytes mean equal fields and end at the same place, so nothing is checked less.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeVar

from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from schemas.request import BlobRef
from streams.splice import read_from, wire_of
from streams.varint import write_bytes, write_long, write_string

T = TypeVar("T")

MAX_AXES: Final = 32
MAX_KEPT: Final = 4096
WINDOW_BYTES: Final = 256
_END: Final = b"\x00"
_NONE: Final = b"\x00"
_SOME: Final = b"\x02"
_CACHED: Final = (b"\x00", b"\x01")
_UNEXECUTED: Final = bytes(10)
"""What stands behind the inputs of a segment that was not executed and has no blob."""


def encode_frame(frame: InferenceFrame, prefix: bytes = b"") -> bytes:
    """Avro body of a frame, behind ``prefix``."""
    parts: list[bytes | memoryview] = [
        prefix,
        write_long(frame.frame_id), write_long(frame.created_us), write_bytes(frame.topic_id),
        write_long(frame.partition), write_long(frame.memory_sequence), write_long(frame.admitted_us),
        write_long(frame.routed_us), write_long(frame.executed_us),
    ]  # fmt: skip
    if frame.segments:
        parts.append(write_long(len(frame.segments)))
        for segment in frame.segments:
            parts.append(_head(segment.model, segment.version, segment.cohort))
            wire = wire_of(segment)
            if wire is None:
                _put_segment(parts, segment)
            else:
                parts.append(wire)
    parts.append(_END)
    rows = wire_of(frame)
    if rows is None:
        _put_rows(parts, frame)
    else:
        parts.append(rows)
    return b"".join(parts)


def _put_rows(parts: list[bytes | memoryview], frame: InferenceFrame) -> None:
    """Tenants, errors and columns."""
    if frame.tenants:
        parts.append(write_long(len(frame.tenants)))
        parts += [write_string(tenant) for tenant in frame.tenants]
    parts.append(_END)
    if frame.errors:
        parts.append(write_long(len(frame.errors)))
        for error in frame.errors:
            parts += (
                write_long(error.row), write_string(error.code), write_string(error.message),
                write_long(error.retry_after_ms),
            )  # fmt: skip
    parts.append(_END)
    for column in (
        frame.offsets, frame.gaps, frame.received_us, frame.deadlines_us, frame.priorities, frame.statuses, frame.roles,
        frame.row_items, frame.tenant_index, frame.id_lengths, frame.ids, frame.key_lengths, frame.routing_keys,
    ):  # fmt: skip
        parts += (write_long(len(column)), column)
    digests = frame.input_digests
    parts += (_NONE,) if digests is None else (_SOME, write_long(len(digests)), digests)


@lru_cache(MAX_KEPT)
def _head(model: str, version: str, cohort: str) -> bytes:
    return write_string(model) + write_string(version) + write_string(cohort)


@lru_cache(MAX_KEPT)
def _origin(model_digest: str, execution_provider: str, executor: str) -> bytes:
    return write_string(model_digest) + write_string(execution_provider) + write_string(executor)


@lru_cache(MAX_KEPT)
def _signature(name: str, datatype: str, item_shape: tuple[int, ...]) -> bytes:
    axes = [write_long(length) for length in item_shape]
    shape = b"".join((write_long(len(axes)), *axes, _END)) if axes else _END
    return write_string(name) + write_string(datatype) + shape


def _put_segment(parts: list[bytes | memoryview], segment: Segment) -> None:
    """A segment behind its head."""
    parts.append(write_long(segment.num_rows))
    _put_blocks(parts, segment.inputs)
    _put_blocks(parts, segment.outputs)
    parts += (
        _origin(segment.model_digest, segment.execution_provider, segment.executor),
        write_long(segment.batch_id), write_long(segment.batch_size), write_long(segment.queued_us),
        write_long(segment.run_us),
    )  # fmt: skip
    blob = segment.blob
    if blob is not None:
        parts += (_SOME, write_string(blob.digest), write_long(blob.size_bytes), _CACHED[segment.cached])
    else:
        parts += (_NONE, _CACHED[segment.cached])


def _put_blocks(parts: list[bytes | memoryview], blocks: tuple[TensorBlock, ...]) -> None:
    if blocks:
        parts.append(write_long(len(blocks)))
        for block in blocks:
            signature = _signature(block.name, block.datatype, block.item_shape)
            parts += (signature, write_long(len(block.data)), block.data)
    parts.append(_END)


class _Cursor:
    """Reads primitives from ``data`` from index ``at`` on. EOFError when cut off, ValueError when out of range."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def long(self) -> int:
        data, at = self.data, self.at
        if at >= len(data):
            raise EOFError("the record ends inside a number")
        byte = data[at]
        at += 1
        if byte < 0x80:
            self.at = at
            return (byte >> 1) ^ -(byte & 1)
        z, shift = byte & 0x7F, 7
        while byte & 0x80:
            if at >= len(data):
                raise EOFError("the record ends inside a number")
            byte = data[at]
            at += 1
            z |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise ValueError("a number is longer than 64 bits")
        if z >> 64:
            raise ValueError("a number is longer than 64 bits")
        self.at = at
        return (z >> 1) ^ -(z & 1)

    def integer(self) -> int:
        number = self.long()
        if not -(1 << 31) <= number < 1 << 31:
            raise ValueError("a number is larger than 32 bits")
        return number

    def flag(self, true: int) -> bool:
        """One byte that is 0 or ``true``: a boolean, or the branch of a union of null and one more."""
        if self.at >= len(self.data):
            raise EOFError("the record ends before a flag")
        byte = self.data[self.at]
        if byte not in (0, true):
            raise ValueError("a flag is neither false nor true")
        self.at += 1
        return byte == true

    def blob(self) -> bytes:
        size = self.long()
        start = self.at
        end = start + size
        if size < 0 or end > len(self.data):
            raise EOFError("a length points beyond the record")
        self.at = end
        return self.data[start:end]

    def string(self) -> str:
        return self.blob().decode()

    def count(self) -> int:
        """Items of the next array block; 0 ends the array. An item takes at least a byte, so the count is bounded."""
        count = self.long()
        if count == 0:
            return 0
        if count < 0:
            self.long()  # the block's size in bytes, which nothing here skips by
            count = -count
        if count > len(self.data) - self.at:
            raise ValueError("an array claims more items than the record can hold")
        return count


def decode_frame(value: bytes, at: int) -> InferenceFrame:
    """The frame whose Avro body fills ``value`` from index ``at``. EOFError or ValueError when it does not fit."""
    cursor, view = _Cursor(value, at), memoryview(value)
    long, column = cursor.long, cursor.blob
    frame_id, created_us, topic_id, partition = long(), long(), column(), cursor.integer()
    memory_sequence, admitted_us, routed_us, executed_us = long(), long(), long(), long()
    segments: list[Segment] = []
    while count := cursor.count():
        segments += [_segment(cursor, view) for _ in range(count)]
    rows_at = cursor.at
    tenants: list[str] = []
    while count := cursor.count():
        tenants += [cursor.string() for _ in range(count)]
    errors: list[RowError] = []
    while count := cursor.count():
        errors += [RowError(cursor.integer(), cursor.string(), cursor.string(), cursor.integer()) for _ in range(count)]
    columns: list[Any] = [column() for _ in range(13)]
    columns.append(column() if cursor.flag(2) else None)
    rows = view[rows_at : cursor.at]
    frame = InferenceFrame(
        frame_id, created_us, topic_id, partition, memory_sequence, admitted_us, routed_us, executed_us,
        tuple(segments), tuple(tenants), tuple(errors), *columns,
    )  # fmt: skip
    if cursor.at != len(value):
        raise ValueError("bytes are left over after the record")
    return read_from(frame, rows)


_HEADS: Final[dict[bytes, tuple[str, str, str]]] = {}
_SIGNATURES: Final[dict[bytes, tuple[str, str, tuple[int, ...]]]] = {}
_ORIGINS: Final[dict[bytes, tuple[str, str, str]]] = {}


def _segment(cursor: _Cursor, view: memoryview) -> Segment:
    model, version, cohort = _strings(cursor, _HEADS)
    wire_at = cursor.at
    num_rows, inputs = cursor.integer(), _blocks(cursor)
    if cursor.data.startswith(_UNEXECUTED, cursor.at):
        cursor.at += len(_UNEXECUTED)
        return read_from(Segment(model, version, cohort, num_rows, inputs), view[wire_at : cursor.at])
    outputs = _blocks(cursor)
    return Segment(
        model, version, cohort, num_rows, inputs, outputs, *_strings(cursor, _ORIGINS),
        cursor.long(), cursor.integer(), cursor.long(), cursor.long(),
        BlobRef(cursor.string(), cursor.long()) if cursor.flag(2) else None, cursor.flag(1),
    )  # fmt: skip


def _strings(cursor: _Cursor, kept: dict[bytes, tuple[str, str, str]]) -> tuple[str, str, str]:
    """Three strings. The place of their end is a guess; only bytes that were read as three strings confirm it."""
    data, start = cursor.data, cursor.at
    window, end = data[start : start + WINDOW_BYTES], 0
    try:
        for _ in range(3):
            size = window[end]
            end += 1 + (size >> 1) if size < 0x80 else 2 + (((size & 0x7F) | window[end + 1] << 7) >> 1)
    except IndexError:
        end = 0  # cut off, or too long to be kept
    found = kept.get(window[:end])
    if found is None:
        found = (cursor.string(), cursor.string(), cursor.string())
        _keep(kept, data[start : cursor.at], found)
    else:
        cursor.at = start + end
    return found


def _blocks(cursor: _Cursor) -> tuple[TensorBlock, ...]:
    count = cursor.count()
    if count == 0:
        return ()
    blocks: list[TensorBlock] = []
    while count:
        blocks += [_block(cursor) for _ in range(count)]
        count = cursor.count()
    return tuple(blocks)


def _block(cursor: _Cursor) -> TensorBlock:
    """A block; the end of name, datatype and shape is guessed as that of strings is."""
    data, start = cursor.data, cursor.at
    window, end = data[start : start + WINDOW_BYTES], 0
    try:
        end = 1 + (window[0] >> 1)
        end += 1 + (window[end] >> 1)
        axes = window[end] >> 1
        end += 1
        if axes:
            for _ in range(axes):
                while window[end] > 0x7F:
                    end += 1
                end += 1
            end += 1
    except IndexError:
        end = 0
    found = _SIGNATURES.get(window[:end])
    if found is None:
        found = (cursor.string(), cursor.string(), _shape(cursor))
        _keep(_SIGNATURES, data[start : cursor.at], found)
    else:
        cursor.at = start + end
    name, datatype, item_shape = found
    return TensorBlock(name, datatype, item_shape, cursor.blob())


def _shape(cursor: _Cursor) -> tuple[int, ...]:
    shape: list[int] = []
    while count := cursor.count():
        if len(shape) + count > MAX_AXES:
            raise ValueError(f"a tensor has more than {MAX_AXES} axes")
        shape += [cursor.long() for _ in range(count)]
    return tuple(shape)


def _keep(kept: dict[bytes, T], run: bytes, read: T) -> None:
    """Remember what a run of bytes was read as; in a full table nothing is, but a new table."""
    if len(run) > WINDOW_BYTES:
        return
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[run] = read
