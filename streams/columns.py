"""Numpy views of a frame's columns, and the operations on rows: take, drop, join.

Rows stand in segment order; an item is one entry of a row's batch axis. All arrays returned by ``Columns.of`` are
read-only views of the frame's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.frame import InferenceFrame, RowError, TensorBlock
from schemas.quick import quick
from streams.tensors import BYTES, WIRE_DTYPES, count_of, element_ends, prefix_end, texts

STATUSES: Final = ("PENDING", "OK", "ERROR", "REJECTED", "EXPIRED")
PENDING, OK, ERROR, REJECTED, EXPIRED = range(5)
PRIMARY, SHADOW, HEDGE = range(3)

DATATYPE_BYTES: Final[dict[str, int]] = {name: dtype.itemsize for name, dtype in WIRE_DTYPES.items()}
"""Bytes of an element, of every datatype whose elements have one width: all but ``BYTES``."""
NUMPY_DTYPES: Final[dict[str, str]] = {name: dtype.str for name, dtype in WIRE_DTYPES.items()}

_DTYPES: Final = {
    "offsets": "<i8", "gaps": "<i4", "received_us": "<i8", "deadlines_us": "<i8", "priorities": "|u1",
    "statuses": "|u1", "roles": "|u1", "row_items": "<u2", "tenant_index": "<u2", "id_lengths": "|u1",
    "key_lengths": "<u2",
}  # fmt: skip

Array = NDArray[Any]


@quick
@dataclass(frozen=True, slots=True)
class Columns:
    """A frame's columns, one entry per row (see ``schemas.frame`` for dtypes and units)."""

    offsets: Array
    gaps: Array
    received_us: Array
    deadlines_us: Array
    priorities: Array
    statuses: Array
    roles: Array
    row_items: Array
    tenant_index: Array
    id_lengths: Array
    key_lengths: Array

    @classmethod
    def of(cls, frame: InferenceFrame) -> Columns:
        """View the columns of ``frame`` without copying."""
        view = np.frombuffer
        return cls(
            view(frame.offsets, "<i8"), view(frame.gaps, "<i4"), view(frame.received_us, "<i8"),
            view(frame.deadlines_us, "<i8"), view(frame.priorities, "|u1"), view(frame.statuses, "|u1"),
            view(frame.roles, "|u1"), view(frame.row_items, "<u2"), view(frame.tenant_index, "<u2"),
            view(frame.id_lengths, "|u1"), view(frame.key_lengths, "<u2"),
        )  # fmt: skip


def num_rows(frame: InferenceFrame) -> int:
    """Number of requests in the frame."""
    return len(frame.statuses)


def _cut(lengths: Array, data: bytes) -> list[bytes]:
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    start, parts = 0, []
    for end in ends:
        parts.append(data[start:end])
        start = end
    return parts


def request_ids(frame: InferenceFrame) -> list[bytes]:
    """The rows' request ids, UTF-8."""
    return _cut(np.frombuffer(frame.id_lengths, "|u1"), frame.ids)


def routing_keys(frame: InferenceFrame) -> list[bytes]:
    """The rows' routing keys, UTF-8; empty where there is none."""
    return _cut(np.frombuffer(frame.key_lengths, "<u2"), frame.routing_keys)


def segment_starts(frame: InferenceFrame) -> list[int]:
    """First row of each segment, and the number of rows as a last entry."""
    starts = [0]
    for segment in frame.segments:
        starts.append(starts[-1] + segment.num_rows)
    return starts


def item_bytes(block: TensorBlock) -> int:
    """Bytes of one batch item of a block; its datatype has elements of one width, so it is not ``BYTES``."""
    return count_of(block.item_shape) * DATATYPE_BYTES[block.datatype]


def item_edges(block: TensorBlock, num_items: int) -> list[int]:
    """Byte offsets of a block's items, ``num_items + 1`` of them. BYTES data is walked: MalformedBytesError."""
    if block.datatype != BYTES:
        width = item_bytes(block)
        return list(range(0, num_items * width + 1, width)) if width else [0] * (num_items + 1)
    elements = count_of(block.item_shape)
    ends = [0, *element_ends(block.data, num_items * elements)]
    return ends[::elements] if elements else [0] * (num_items + 1)


def block_array(block: TensorBlock) -> Array:
    """The block as an array ``[items, *item_shape]`` over its own bytes (read-only); not of ``BYTES``.

    Without elements (an axis of length 0) the number of items is not in the bytes, and 0 here.
    """
    values = np.frombuffer(block.data, NUMPY_DTYPES[block.datatype])
    return values.reshape(-1 if 0 not in block.item_shape else 0, *block.item_shape)


def items_array(block: TensorBlock, first: int, count: int) -> Array:
    """Items ``[first, first + count)`` of a block: a read-only view, or of BYTES an array of ``str`` objects."""
    shape = (count, *block.item_shape)
    if block.datatype != BYTES:
        dtype = WIRE_DTYPES[block.datatype]
        offset = first and first * count_of(block.item_shape) * dtype.itemsize
        return np.ndarray(shape, dtype, block.data, offset)  # half of what frombuffer and reshape cost
    return texts(block.data, prefix_end(block.data, 0, first * count_of(block.item_shape)), shape)


def take_items(block: TensorBlock, items: Array, num_items: int) -> TensorBlock:
    """The block with only ``items`` (int64, any order) of its ``num_items``."""
    if block.datatype == BYTES:
        edges, data = item_edges(block, num_items), block.data
        return replace(block, data=b"".join([data[edges[item] : edges[item + 1]] for item in items.tolist()]))
    width = item_bytes(block)
    if width == 0 or num_items == 0:
        return block
    rows = np.frombuffer(block.data, f"|V{width}")
    return replace(block, data=rows[items].tobytes())


def take(frame: InferenceFrame, rows: Array) -> InferenceFrame:
    """The frame with only ``rows`` (ascending row numbers, int64), blocks and errors included."""
    total = num_rows(frame)
    if len(rows) == total:
        return frame
    columns = Columns.of(frame)
    ids, keys = request_ids(frame), routing_keys(frame)
    chosen = rows.tolist()
    item_starts = np.concatenate(([0], np.cumsum(columns.row_items, dtype=np.int64)))
    segments = []
    starts = segment_starts(frame)
    for number, segment in enumerate(frame.segments):
        low, high = np.searchsorted(rows, (starts[number], starts[number + 1]))
        if low == high:
            continue
        mine = rows[low:high]
        if len(mine) == segment.num_rows:
            segments.append(segment)
            continue
        if segment.inputs or segment.outputs:
            base = item_starts[starts[number]]
            items = np.concatenate([np.arange(item_starts[r] - base, item_starts[r + 1] - base) for r in mine.tolist()])
            count = int(item_starts[starts[number + 1]] - base)
            segment = replace(
                segment,
                inputs=tuple(take_items(block, items, count) for block in segment.inputs),
                outputs=tuple(take_items(block, items, count) for block in segment.outputs),
            )
        segments.append(replace(segment, num_rows=len(mine)))
    place = {row: at for at, row in enumerate(chosen)}
    errors = tuple(replace(e, row=place[e.row]) for e in frame.errors if e.row in place)
    picked = {name: getattr(columns, name)[rows].tobytes() for name in _DTYPES}
    if frame.input_digests is not None:
        picked["input_digests"] = np.frombuffer(frame.input_digests, "|V16")[rows].tobytes()
    return replace(
        frame,
        segments=tuple(segments),
        errors=errors,
        ids=b"".join([ids[r] for r in chosen]),
        routing_keys=b"".join([keys[r] for r in chosen]),
        **picked,
    )


def end_rows(
    frame: InferenceFrame, status: int, errors: Sequence[RowError], *, without_inputs: bool = True
) -> InferenceFrame:
    """The frame with every row ended in ``status`` (not OK) and the given errors; tensors are dropped."""
    segments = frame.segments
    if without_inputs:
        segments = tuple(replace(segment, inputs=(), outputs=(), blob=None) for segment in segments)
    return replace(frame, segments=segments, statuses=bytes([status]) * num_rows(frame), errors=tuple(errors))
