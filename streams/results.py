"""From the rows of a gated frame to result records: value spliced from parts, coordinate and status in headers.

What is constant for a segment (model .. timing) is encoded once; per row only id, tenant, coordinate, status and the
output bytes are added. The headers are those of ``streams/ledger.py``, which never decodes a value.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.frame import InferenceFrame, RowError, Segment
from schemas.result import ResultError
from streams.codec import Codec, encode_body
from streams.columns import OK, Columns, item_bytes, item_edges, request_ids, segment_starts
from streams.ledger import REAPED_HEADER, SOURCE, SOURCE_HEADER, STATUS_HEADER, STATUS_LETTERS
from streams.tensors import BYTES
from streams.varint import write_bytes, write_long, write_string

TOPIC: Final = "inference.results"

_LETTERS: Final = {status: letter for letter, status in STATUS_LETTERS.items()}
_NO_ERROR: Final = b"\x00"
_EMPTY: Final = b"\x00"
_CACHED: Final = (b"\x00", b"\x01")
_ENUM: Final = {status: write_long(status - 1) for status in _LETTERS}

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def encode_results(codec: Codec, frame: InferenceFrame, completed_us: int, *, reaped: bool = False) -> list[Record]:
    """One (key, value, headers) per row, in row order. Rows must be ended: no status PENDING."""
    columns = Columns.of(frame)
    ids = request_ids(frame)
    head = codec.prefix(TOPIC)
    tenants = [write_string(tenant) for tenant in frame.tenants]
    place = frame.topic_id + write_long(frame.partition)
    errors = {error.row: error for error in frame.errors}
    extra = [(REAPED_HEADER, b"1")] if reaped else []
    offsets, received = columns.offsets.tolist(), columns.received_us.tolist()
    statuses, tenant_of, items = columns.statuses.tolist(), columns.tenant_index.tolist(), columns.row_items.tolist()
    starts = segment_starts(frame)
    timing = _timing_part(frame, completed_us)
    records: list[Record] = []
    for number, segment in enumerate(frame.segments):
        common = _segment_part(frame, segment) + timing
        outputs = _Outputs(segment, sum(items[starts[number] : starts[number + 1]]))
        for row in range(starts[number], starts[number + 1]):
            status, offset = statuses[row], offsets[row]
            body = outputs.take(items[row], keep=status == OK)
            error = errors.get(row) if status != OK else None
            value = b"".join((
                head, write_bytes(ids[row]), tenants[tenant_of[row]], write_long(received[row]), place,
                write_long(offset), _ENUM[status], _NO_ERROR if error is None else _error_part(error),
                common, body,
            ))  # fmt: skip
            source = SOURCE.pack(frame.topic_id, frame.partition, offset)
            headers = [(SOURCE_HEADER, source), (STATUS_HEADER, _LETTERS[status]), *extra]
            records.append((ids[row], value, headers))
    return records


def _error_part(error: RowError) -> bytes:
    return b"\x02" + encode_body("ResultError", ResultError(error.code, error.message, error.retry_after_ms))


def _timing_part(frame: InferenceFrame, completed_us: int) -> bytes:
    """Timing, encoded."""
    instants = (frame.admitted_us, frame.routed_us, frame.executed_us, completed_us)
    return b"".join([write_long(instant) for instant in instants])


def _segment_part(frame: InferenceFrame, segment: Segment) -> bytes:
    """model, model_version and Provenance, encoded: experiment is empty."""
    return b"".join((
        write_string(segment.model), write_string(segment.version),
        write_string(segment.model_digest), write_long(frame.memory_sequence), write_string(segment.cohort),
        _EMPTY, write_long(segment.batch_id), write_long(segment.batch_size),
        write_string(segment.execution_provider), write_string(segment.executor), _CACHED[segment.cached],
    ))  # fmt: skip


class _Outputs:
    """Walks a segment's output blocks row by row; ``take`` must be called for each row in order."""

    def __init__(self, segment: Segment, num_items: int) -> None:
        self._blocks = [
            (
                write_string(block.name) + write_string(block.datatype),
                block.item_shape,
                0 if block.datatype == BYTES else item_bytes(block),
                block.data,
            )
            for block in segment.outputs
        ]
        self._texts = {
            at: item_edges(block, num_items) for at, block in enumerate(segment.outputs) if block.datatype == BYTES
        }
        self._item = 0
        self._heads: dict[int, list[bytes]] = {}

    def take(self, items: int, *, keep: bool) -> bytes:
        """The next row's output tensors as an Avro array, or an empty array."""
        start, self._item = self._item, self._item + items
        if not keep or not self._blocks:
            return b"\x00"
        if self._texts:
            return self._take_texts(start, items)
        heads = self._heads.get(items)
        if heads is None:
            heads = self._heads[items] = [self._head(block, items, items * block[2]) for block in self._blocks]
        parts = [write_long(len(self._blocks))]
        for head, (_, _, width, data) in zip(heads, self._blocks, strict=True):
            parts += (head, data[start * width : (start + items) * width])
        parts.append(b"\x00")
        return b"".join(parts)

    def _take_texts(self, start: int, items: int) -> bytes:
        """A row's tensors of which one is BYTES: its size is not that of the next row's."""
        parts = [write_long(len(self._blocks))]
        for at, block in enumerate(self._blocks):
            edges, width = self._texts.get(at), block[2]
            if edges is None:
                data = block[3][start * width : (start + items) * width]
            else:
                data = block[3][edges[start] : edges[start + items]]
            parts += (self._head(block, items, len(data)), data)
        parts.append(b"\x00")
        return b"".join(parts)

    @staticmethod
    def _head(block: tuple[bytes, tuple[int, ...], int, bytes], items: int, num_bytes: int) -> bytes:
        names, item_shape, _, _ = block
        shape = (items, *item_shape)
        axes = write_long(len(shape)) + b"".join(write_long(length) for length in shape) + b"\x00"
        return names + axes + write_long(num_bytes)


def offsets_of(frame: InferenceFrame) -> NDArray[np.int64]:
    """Request offsets of a frame's rows, int64."""
    return np.frombuffer(frame.offsets, "<i8")
