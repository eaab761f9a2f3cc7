"""Identical items of a batch run once: found by their bytes, all inputs together.

Looking must cost next to nothing, because nearly always there is nothing to find: one word of each item is compared
first, some words where that is not enough, whole items only where those agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from schemas.frame import TensorBlock
from streams.columns import Array
from streams.tensors import BYTES

SAMPLES: Final = 8
FEW: Final = 12
"""Up to so many random items one byte of each is likely to tell them apart."""

_MANY: Final = [
    numba.int64(numba.types.Array(kind, 2, "C", readonly=True), numba.types.Array(numba.int64, 1, "C"))
    for kind in (numba.uint64, numba.uint8)
]


@numba.njit(_MANY, cache=True, nogil=True)
def first_equal(rows: Array, first: NDArray[np.int64]) -> int:
    """Write for each row the index of the first row equal to it; the number of different rows.

    rows: uint64 or uint8 [n, k], k at least 1; first: int64 [n].
    """
    num_rows, width = rows.shape
    step = max(1, width // SAMPLES)
    marks = np.empty(num_rows, np.uint64)
    different = num_rows
    for i in range(num_rows):
        mark = np.uint64(rows[i, width - 1])
        for word in range(0, width, step):
            mark = mark * np.uint64(0x9E3779B97F4A7C15) + np.uint64(rows[i, word])
        marks[i] = mark
        first[i] = i
        for j in range(i):
            if marks[j] == mark and first[j] == j:
                same = True
                for word in range(width):
                    if rows[i, word] != rows[j, word]:
                        same = False
                        break
                if same:
                    first[i] = j
                    different -= 1
                    break
    return int(different)


def told_apart(block: TensorBlock, num_items: int) -> bool:
    """Whether one word or byte of each of the items (one at least) is enough to see that no two are equal.

    True is sure; False says nothing, as for texts and items that are not whole words.
    """
    words, rest = divmod(len(block.data), 8 * num_items)
    if rest or not words or block.datatype == BYTES:
        return False
    if num_items <= FEW and len(set(block.data[words << 2 :: words << 3])) == num_items:  # a byte will do
        return True
    return len(set(memoryview(block.data).cast("Q")[words >> 1 :: words].tolist())) == num_items


def coalesced(inputs: Mapping[str, Array]) -> tuple[dict[str, Array], NDArray[np.int64]] | None:
    """The batch without repetitions, and per item the place of its like in it; None when no item stands twice.

    Texts are not looked at.
    """
    widest = next(iter(inputs.values())) if len(inputs) == 1 else max(inputs.values(), key=_num_bytes)
    num_items = len(widest)
    if num_items < 2 or _num_bytes(widest) == 0:
        return None
    first = np.empty(num_items, np.int64)
    if first_equal(_words(widest, num_items), first) == num_items:
        return None
    for array in inputs.values():
        if array is not widest:
            _keep_equal(array, first)
    kept = np.flatnonzero(first == np.arange(num_items))
    if len(kept) == num_items:
        return None
    return {name: array[kept] for name, array in inputs.items()}, np.searchsorted(kept, first)


def _num_bytes(array: Array) -> int:
    return 0 if array.dtype.hasobject else array.nbytes


def _words(array: Array, num_items: int) -> Any:
    """The items' bytes, as words where they are whole words."""
    width = array.nbytes // num_items
    flat = np.ascontiguousarray(array).reshape(num_items, -1).view(np.uint8)
    if width % 8 == 0:
        words = flat.view(np.uint64)
        if words.flags.aligned:
            return words
    return flat


def _keep_equal(array: Array, first: NDArray[np.int64]) -> None:
    """Undo what another input tells apart."""
    for item in np.flatnonzero(first != np.arange(len(first))).tolist():
        like = first[item]
        if array[item].tobytes() != array[like].tobytes() if not array.dtype.hasobject else True:
            first[item] = item
