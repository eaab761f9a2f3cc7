"""Kernel: writes the rows of a frame as records of a Kafka batch, value and headers included, in one pass.

What a row shares with others stands in ``const`` as pieces: ``edges[p] .. edges[p + 1]`` is piece ``p``. The tensors'
data of all blocks stands in ``data``, one block after another.

Whatever copies is inlined by force: left to LLVM, the parts cost half as much again as one long function.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

HEAD, PLACE, END, SOURCE, STATUS, REAPED, NO_ERROR, TENANTS = range(8)
"""Pieces of every frame: what is before an id, between time and offset, behind the outputs, the headers' constant parts
(``SOURCE`` lacks the offset behind it, ``STATUS`` the letter), no error, and from ``TENANTS`` on one per tenant."""

OFFSET, RECEIVED, STATUS_CODE, TENANT, ITEMS, ID_BYTES, NUM_COLUMNS = range(7)
"""Rows of ``columns``, int64."""

ROWS, COMMON, BLOCKS = range(3)
"""Of a segment: its rows, the piece of model to timing, the number of its blocks."""

BEFORE, AFTER, WIDTH, DATA, EDGES = range(5)
"""Of a block: pieces before and behind the number of items, bytes per item (-1: by its edges), where its data and its
edges (in ``item_edges``, relative to its data) begin."""

MAX_FIXED: Final = 160
"""More than what a row takes beside its pieces, id and data."""
MAX_FIXED_BLOCK: Final = 20
"""What a row takes at most for a block, beside the block's pieces and data."""

_BYTES: Final = "Array(uint8, 1, 'C', readonly=True)"
Array = NDArray[Any]
Int = Any
"""A machine integer inside compiled code."""


@njit("int64(int64)", cache=True, nogil=True)
def _size(n: Int) -> Int:
    """Bytes of the zigzag varint of ``n``."""
    z = np.uint64((n << 1) ^ (n >> 63))
    size = 1
    while z > np.uint64(127):
        z >>= np.uint64(7)
        size += 1
    return size


@njit("int64(uint8[::1], int64, int64)", cache=True, nogil=True)
def _long(out: Array, at: Int, n: Int) -> Int:
    z = np.uint64((n << 1) ^ (n >> 63))
    while z > np.uint64(127):
        out[at] = np.uint8((z & np.uint64(127)) | np.uint64(128))
        z >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(z)
    return at + 1


@njit(f"int64(uint8[::1], int64, {_BYTES}, int64, int64)", cache=True, nogil=True, forceinline=True)
def _copy(out: Array, at: Int, source: Array, start: Int, end: Int) -> Int:
    for i in range(end - start):
        out[at + i] = source[start + i]
    return at + end - start


@njit("int64(int64, int64, int64[:, ::1], int64[::1])", cache=True, nogil=True)
def _start(block: Int, item: Int, blocks: Array, item_edges: Array) -> Int:
    """Where an item of a block begins in ``data``."""
    width = blocks[block, WIDTH]
    if width >= 0:
        return blocks[block, DATA] + item * width
    return blocks[block, DATA] + item_edges[blocks[block, EDGES] + item]


@njit("int64(int64[::1], int64)", cache=True, nogil=True, forceinline=True)
def _length(edges: Array, piece: Int) -> Int:
    return edges[piece + 1] - edges[piece]


@njit(f"int64(uint8[::1], int64, {_BYTES}, int64[::1], int64)", cache=True, nogil=True, forceinline=True)
def _piece(out: Array, at: Int, const: Array, edges: Array, piece: Int) -> Int:
    return _copy(out, at, const, edges[piece], edges[piece + 1])


@njit(
    "int64(int64, int64, int64, int64, int64[::1], int64[:, ::1], int64[::1])", cache=True, nogil=True, forceinline=True
)
def _outputs_size(first: Int, last: Int, item: Int, items: Int, edges: Array, blocks: Array, item_edges: Array) -> Int:
    """Bytes of a row's outputs, which are ``items`` of blocks ``[first, last)``, from ``item`` on."""
    size = np.int64(1)
    if last > first:
        size += _size(last - first)
    for block in range(first, last):
        span = _start(block, item + items, blocks, item_edges) - _start(block, item, blocks, item_edges)
        size += _length(edges, blocks[block, BEFORE]) + _size(items) + _length(edges, blocks[block, AFTER])
        size += _size(span) + span
    return size


@njit(
    f"int64(uint8[::1], int64, int64, int64, int64, int64, {_BYTES}, int64[::1], {_BYTES}, int64[:, ::1], int64[::1])",
    cache=True,
    nogil=True,
    forceinline=True,
)
def _write_outputs(
    out: Array,
    at: Int,
    first: Int,
    last: Int,
    item: Int,
    items: Int,
    const: Array,
    edges: Array,
    data: Array,
    blocks: Array,
    item_edges: Array,
) -> Int:
    if last > first:
        at = _long(out, at, last - first)
    for block in range(first, last):
        start = _start(block, item, blocks, item_edges)
        end = _start(block, item + items, blocks, item_edges)
        at = _piece(out, at, const, edges, blocks[block, BEFORE])
        at = _long(out, at, items)
        at = _piece(out, at, const, edges, blocks[block, AFTER])
        at = _long(out, at, end - start)
        at = _copy(out, at, data, start, end)
    out[at] = 0  # the end of the outputs
    return at + 1


@njit("int64(int64[::1])", cache=True, nogil=True, forceinline=True)
def _headers_size(edges: Array) -> Int:
    """Bytes of a record's headers, with their number."""
    return 1 + _length(edges, SOURCE) + 8 + _length(edges, STATUS) + 1 + _length(edges, REAPED)


@njit(f"int64(uint8[::1], int64, int64, uint8, {_BYTES}, int64[::1])", cache=True, nogil=True, forceinline=True)
def _write_headers(out: Array, at: Int, offset: Int, letter: Int, const: Array, edges: Array) -> Int:
    at = _long(out, at, 3 if _length(edges, REAPED) > 0 else 2)
    at = _piece(out, at, const, edges, SOURCE)
    for byte in range(8):
        out[at + byte] = np.uint8((offset >> (56 - 8 * byte)) & 255)
    at = _piece(out, at + 8, const, edges, STATUS)
    out[at] = letter
    return _piece(out, at + 1, const, edges, REAPED)


@njit(
    f"UniTuple(int64, 2)(uint8[::1], int64, int64, int64, int64, int64[:, ::1], {_BYTES}, {_BYTES}, int64[::1], "
    f"{_BYTES}, int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], uint8[::1])",
    cache=True,
    nogil=True,
)
def write_rows(
    out: Array,
    at: Int,
    delta: Int,
    first: Int,
    last: Int,
    columns: Array,
    ids: Array,
    const: Array,
    edges: Array,
    data: Array,
    segments: Array,
    blocks: Array,
    item_edges: Array,
    error_of: Array,
    letters: Array,
) -> Any:
    """Write rows ``[first, last)`` as long as they fit; return the next row and the index behind what was written.

    ``out`` is filled from ``at`` on; ``delta`` is the offset delta of row ``first``. ``error_of``: per row the piece of
    its encoded error. Writing nothing means that not even one row fits.
    """
    row, id_at, block_at = 0, 0, 0
    headers = _headers_size(edges)
    for segment in range(segments.shape[0]):
        common, num_blocks = segments[segment, COMMON], segments[segment, BLOCKS]
        item = 0
        for _ in range(segments[segment, ROWS]):
            items, id_bytes = columns[ITEMS, row], columns[ID_BYTES, row]
            if row >= last:
                return np.int64(row), np.int64(at)
            if row >= first:
                offset, received, status = columns[OFFSET, row], columns[RECEIVED, row], columns[STATUS_CODE, row]
                tenant, error = TENANTS + columns[TENANT, row], error_of[row]
                end_block = block_at + num_blocks if status == 1 else block_at
                size = (
                    _length(edges, HEAD) + _size(id_bytes) + id_bytes + _length(edges, tenant) + _size(received)
                    + _length(edges, PLACE) + _size(offset) + 1 + _length(edges, error) + _length(edges, common)
                    + _outputs_size(block_at, end_block, item, items, edges, blocks, item_edges) + _length(edges, END)
                )  # fmt: skip
                record = 2 + _size(delta) + _size(id_bytes) + id_bytes + _size(size) + size + headers
                if at + _size(record) + record > out.shape[0]:
                    return np.int64(row), np.int64(at)
                at = _long(out, at, record)
                out[at] = 0  # attributes
                out[at + 1] = 0  # time delta
                at = _long(out, at + 2, delta)
                at = _long(out, at, id_bytes)
                at = _copy(out, at, ids, id_at, id_at + id_bytes)
                at = _long(out, at, size)
                at = _piece(out, at, const, edges, HEAD)
                at = _long(out, at, id_bytes)
                at = _copy(out, at, ids, id_at, id_at + id_bytes)
                at = _piece(out, at, const, edges, tenant)
                at = _long(out, at, received)
                at = _piece(out, at, const, edges, PLACE)
                at = _long(out, at, offset)
                at = _long(out, at, status - 1)
                at = _piece(out, at, const, edges, error)
                at = _piece(out, at, const, edges, common)
                at = _write_outputs(
                    out, at, block_at, end_block, item, items, const, edges, data, blocks, item_edges
                )  # fmt: skip
                at = _piece(out, at, const, edges, END)
                at = _write_headers(out, at, offset, letters[status], const, edges)
                delta += 1
            row += 1
            item += items
            id_at += id_bytes
        block_at += num_blocks
    return np.int64(row), np.int64(at)
