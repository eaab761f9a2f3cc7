"""InferenceFrame to bytes and back without a schema walk: the hot path's codec for our own schema of the frame.

Writes the same bytes as the generic codec (a test holds them equal) by splicing primitives, and what it read as it
stood there (``streams.splice``); reads field by field with the same bounds: every length lies inside the value and the
value is consumed to its last byte. A frame written with another registered schema goes through the generic codec.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.frame import InferenceFrame, RowError, Segment
from streams.avro_cursor import Cursor
from streams.segment_codec import put_segment, read_segment
from streams.splice import read_from, wire_of
from streams.varint import write_bytes, write_long, write_string

_END: Final = b"\x00"
_NONE: Final = b"\x00"
_SOME: Final = b"\x02"


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
            put_segment(parts, segment)
    parts.append(_END)
    rows = wire_of(frame)
    if rows is None:
        _put_rows(parts, frame)
    else:
        parts.append(rows)
    return b"".join(parts)


def _put_rows(parts: list[bytes | memoryview], frame: InferenceFrame) -> None:
    """Tenants, errors, columns, and which try it is."""
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
    parts += (write_long(frame.attempt), write_long(frame.not_before_us))


def decode_frame(value: bytes, at: int) -> InferenceFrame:
    """The frame whose Avro body fills ``value`` from index ``at``. EOFError or ValueError when it does not fit."""
    cursor, view = Cursor(value, at), memoryview(value)
    long, column = cursor.long, cursor.blob
    frame_id, created_us, topic_id, partition = long(), long(), column(), cursor.integer()
    memory_sequence, admitted_us, routed_us, executed_us = long(), long(), long(), long()
    segments: list[Segment] = []
    while count := cursor.count():
        segments += [read_segment(cursor, view) for _ in range(count)]
    rows_at = cursor.at
    tenants: list[str] = []
    while count := cursor.count():
        tenants += [cursor.string() for _ in range(count)]
    errors: list[RowError] = []
    while count := cursor.count():
        errors += [RowError(cursor.integer(), cursor.string(), cursor.string(), cursor.integer()) for _ in range(count)]
    columns: list[Any] = [column() for _ in range(13)]
    columns.append(column() if cursor.flag(2) else None)
    columns += (cursor.integer(), long())
    rows = view[rows_at : cursor.at]
    frame = InferenceFrame(
        frame_id, created_us, topic_id, partition, memory_sequence, admitted_us, routed_us, executed_us,
        tuple(segments), tuple(tenants), tuple(errors), *columns,
    )  # fmt: skip
    if cursor.at != len(value):
        raise ValueError("bytes are left over after the record")
    return read_from(frame, rows)
