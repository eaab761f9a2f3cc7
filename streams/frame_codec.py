"""InferenceFrame to bytes and back without a schema walk: the hot path's codec for our own schema of the frame.

Writes the same bytes as the generic codec (a test holds them equal) by splicing primitives; reads field by field with
the same bounds: every length lies inside the value and the value is consumed to its last byte. A frame written with
another registered schema goes through the generic codec.
"""

from __future__ import annotations

from typing import Final

from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from schemas.request import BlobRef
from streams.varint import write_bytes, write_long, write_string

MAX_AXES: Final = 32
_END: Final = b"\x00"
_NONE: Final = b"\x00"
_SOME: Final = b"\x02"
_CACHED: Final = (b"\x00", b"\x01")


def encode_frame(frame: InferenceFrame) -> bytes:
    """Avro body of a frame."""
    parts = [
        write_long(frame.frame_id), write_long(frame.created_us), write_bytes(frame.topic_id),
        write_long(frame.partition), write_long(frame.memory_sequence), write_long(frame.admitted_us),
        write_long(frame.routed_us), write_long(frame.executed_us),
    ]  # fmt: skip
    if frame.segments:
        parts.append(write_long(len(frame.segments)))
        for segment in frame.segments:
            _put_segment(parts, segment)
    parts.append(_END)
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
    return b"".join(parts)


def _put_segment(parts: list[bytes], segment: Segment) -> None:
    parts += (
        write_string(segment.model), write_string(segment.version), write_string(segment.cohort),
        write_long(segment.num_rows),
    )  # fmt: skip
    _put_blocks(parts, segment.inputs)
    _put_blocks(parts, segment.outputs)
    parts += (
        write_string(segment.model_digest), write_string(segment.execution_provider), write_string(segment.executor),
        write_long(segment.batch_id), write_long(segment.batch_size), write_long(segment.queued_us),
        write_long(segment.run_us),
    )  # fmt: skip
    blob = segment.blob
    if blob is not None:
        parts += (_SOME, write_string(blob.digest), write_long(blob.size_bytes), _CACHED[segment.cached])
    else:
        parts += (_NONE, _CACHED[segment.cached])


def _put_blocks(parts: list[bytes], blocks: tuple[TensorBlock, ...]) -> None:
    if blocks:
        parts.append(write_long(len(blocks)))
        for block in blocks:
            parts += (write_string(block.name), write_string(block.datatype))
            if block.item_shape:
                parts.append(write_long(len(block.item_shape)))
                parts += [write_long(length) for length in block.item_shape]
            parts += (_END, write_long(len(block.data)), block.data)
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
        if count < 0:
            self.long()  # the block's size in bytes, which nothing here skips by
            count = -count
        if count > len(self.data) - self.at:
            raise ValueError("an array claims more items than the record can hold")
        return count


def decode_frame(value: bytes, at: int) -> InferenceFrame:
    """The frame whose Avro body fills ``value`` from index ``at``. EOFError or ValueError when it does not fit."""
    cursor = _Cursor(value, at)
    long, column = cursor.long, cursor.blob
    frame_id, created_us, topic_id, partition = long(), long(), column(), cursor.integer()
    memory_sequence, admitted_us, routed_us, executed_us = long(), long(), long(), long()
    segments: list[Segment] = []
    while count := cursor.count():
        segments += [_segment(cursor) for _ in range(count)]
    tenants: list[str] = []
    while count := cursor.count():
        tenants += [cursor.string() for _ in range(count)]
    errors: list[RowError] = []
    while count := cursor.count():
        errors += [RowError(cursor.integer(), cursor.string(), cursor.string(), cursor.integer()) for _ in range(count)]
    frame = InferenceFrame(
        frame_id, created_us, topic_id, partition, memory_sequence, admitted_us, routed_us, executed_us,
        tuple(segments), tuple(tenants), tuple(errors), column(), column(), column(), column(), column(), column(),
        column(), column(), column(), column(), column(), column(), column(),
    )  # fmt: skip
    if cursor.at != len(value):
        raise ValueError("bytes are left over after the record")
    return frame


def _segment(cursor: _Cursor) -> Segment:
    string = cursor.string
    return Segment(
        string(), string(), string(), cursor.integer(), _blocks(cursor), _blocks(cursor), string(), string(), string(),
        cursor.long(), cursor.integer(), cursor.long(), cursor.long(),
        BlobRef(string(), cursor.long()) if cursor.flag(2) else None, cursor.flag(1),
    )  # fmt: skip


def _blocks(cursor: _Cursor) -> tuple[TensorBlock, ...]:
    blocks: list[TensorBlock] = []
    while count := cursor.count():
        blocks += [_block(cursor) for _ in range(count)]
    return tuple(blocks)


def _block(cursor: _Cursor) -> TensorBlock:
    name, datatype = cursor.string(), cursor.string()
    shape: list[int] = []
    while count := cursor.count():
        if len(shape) + count > MAX_AXES:
            raise ValueError(f"a tensor has more than {MAX_AXES} axes")
        shape += [cursor.long() for _ in range(count)]
    return TensorBlock(name, datatype, tuple(shape), cursor.blob())
