"""Whether a frame holds together: what its schema cannot say, and whoever works on its columns relies on.

A frame that fits its schema and not itself would end every process that takes it, for ever; it is poison like bytes
that fit no schema. Plain comparisons of lengths, cheap enough for every frame.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, Segment
from streams.columns import DATATYPE_BYTES, STATUSES
from streams.errors import PoisonRecordError
from streams.tensors import BYTES

_WIDTHS: Final = (
    ("offsets", 8), ("gaps", 4), ("received_us", 8), ("deadlines_us", 8), ("priorities", 1), ("roles", 1),
    ("row_items", 2), ("tenant_index", 2), ("id_lengths", 1), ("key_lengths", 2),
)  # fmt: skip
_KNOWN_STATUSES: Final = bytes(range(len(STATUSES)))


def checked(frame: InferenceFrame) -> InferenceFrame:
    """The frame. Raises PoisonRecordError where it contradicts itself."""
    fault = fault_of(frame)
    if fault:
        raise PoisonRecordError("garbage", f"the frame contradicts itself: {fault}")
    return frame


def fault_of(frame: InferenceFrame) -> str:
    """Why a frame contradicts itself, as a sentence, or an empty string."""
    num_rows = len(frame.statuses)
    for name, width in _WIDTHS:
        if len(getattr(frame, name)) != num_rows * width:
            return f"{name} has not one entry per row"
    if frame.input_digests is not None and len(frame.input_digests) != num_rows * 16:
        return "input_digests has not one entry per row"
    if sum(frame.id_lengths) != len(frame.ids) or _total(frame.key_lengths) != len(frame.routing_keys):
        return "ids or routing keys have another length than their rows say"
    if frame.statuses.translate(None, _KNOWN_STATUSES):
        return "a row has a status that there is not"
    if any(frame.tenant_index) or not frame.tenants:
        highest = int(np.frombuffer(frame.tenant_index, "<u2").max(initial=0))
        if num_rows and highest >= len(frame.tenants):
            return "a row names a tenant that there is not"
    if any(not 0 <= error.row < num_rows for error in frame.errors):
        return "an error names a row that there is not"
    return _fault_of_segments(frame, num_rows)


def _total(lengths: bytes) -> int:
    return int(np.frombuffer(lengths, "<u2").sum(dtype=np.int64)) if any(lengths) else 0


def _fault_of_segments(frame: InferenceFrame, num_rows: int) -> str:
    ones = frame.row_items == b"\x01\x00" * num_rows
    row_items = None if ones else np.frombuffer(frame.row_items, "<u2")
    first = 0
    for segment in frame.segments:
        last = first + segment.num_rows
        if segment.num_rows < 1 or last > num_rows:
            return "the segments' rows are not the frame's"
        items = segment.num_rows if row_items is None else int(row_items[first:last].sum(dtype=np.int64))
        fault = _fault_of_blocks(segment, items)
        if fault:
            return fault
        first = last
    return "" if first == num_rows else "the segments' rows are not the frame's"


def _fault_of_blocks(segment: Segment, items: int) -> str:
    if segment.blob is not None:
        return "" if segment.num_rows == 1 else "a blob is of more than one row"
    for block in (*segment.inputs, *segment.outputs):
        width = _item_bytes(block.datatype, block.item_shape)
        if width == _UNKNOWN:
            return f"a tensor of {segment.model} has a datatype or shape that there is not"
        if width != _BY_CONTENT and len(block.data) != items * width:
            return f"a tensor of {segment.model} has {len(block.data)} bytes, not {items} times {width}"
    return ""


_BY_CONTENT: Final = -1
_UNKNOWN: Final = -2


@lru_cache(4096)
def _item_bytes(datatype: str, item_shape: tuple[int, ...]) -> int:
    """Bytes of an item; ``_BY_CONTENT`` where its content says so, ``_UNKNOWN`` for what is no tensor."""
    if any(length < 0 for length in item_shape):
        return _UNKNOWN
    if datatype == BYTES:
        return _BY_CONTENT
    width = DATATYPE_BYTES.get(datatype, _UNKNOWN)
    for length in item_shape:
        width = width * length if width > 0 else width
    return width
