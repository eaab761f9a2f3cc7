"""Items of a tensor as columns of numbers, of which the measures of a reference are taken.

Of numbers with fixed axes: elements 0, ``stride``, 2 ``stride``, ... Of a tensor with free axes: the elements at
``places`` spots that are evenly spread over however many there are (missing where there are none), then the length of
each free axis. Of texts, per spot: length in characters, then, for all spots, the bucket of the whole text (its CRC-32
modulo ``NUM_BUCKETS``): how often which one comes says how texts are distributed, and none of them is kept.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

import numpy as np

from schemas.reference import Measure, SampledTensor
from streams.columns import Array
from streams.tensors import BF16, BYTES, count_of, widened

NUM_BUCKETS: Final = 16


class ItemColumns:
    """Columns of one tensor. ``num_whole``: how many of them, the first ones, measures of a whole row are of."""

    __slots__ = ("_num_spots", "num_columns", "num_whole", "tensor")

    def __init__(self, tensor: SampledTensor) -> None:
        self.tensor = tensor
        self._num_spots = tensor.num_places
        is_text = tensor.datatype == BYTES
        self.num_whole = 0 if is_text else self._num_spots
        self.num_columns = self._num_spots * (2 if is_text else 1) + len(tensor.free)

    def column(self, measure: Measure) -> int:
        """Where the value of a measure stands; of one of a whole row it is not asked."""
        tensor = self.tensor
        if measure.kind == "axis":
            return self.num_columns - len(tensor.free) + tensor.free.index(measure.element)
        spot = measure.element if tensor.free else measure.element // tensor.stride
        return spot + (self._num_spots if measure.kind == "bucket" else 0)

    def of(self, array: Array, pick: slice | Array) -> Array | None:
        """The items that ``pick`` names of a batch ``[n, *item_shape]``, n at least 1: numbers [k, num_columns].

        Texts are ``str`` objects, BF16 is uint16. None for items of another size than the reference's.
        """
        tensor = self.tensor
        shape = array.shape[1:]
        size = count_of(shape)
        if not tensor.free and size != tensor.size:
            return None
        flat = array if array.ndim == 2 else array.reshape(len(array), size)
        if tensor.free:
            return self._of_free(flat, pick, shape)
        found = flat[pick] if tensor.stride == 1 else flat[pick, :: tensor.stride]  # not the whole of a large item
        return self._numbers(found)

    def _of_free(self, flat: Array, pick: slice | Array, shape: tuple[int, ...]) -> Array:
        size, num = flat.shape[1], len(range(len(flat))[pick]) if isinstance(pick, slice) else len(pick)
        made = np.full((num, self.num_columns), np.nan)
        if size:
            spots = np.arange(self._num_spots) * size // self._num_spots
            rows = np.arange(len(flat))[pick]
            values = self._numbers(flat[rows[:, None], spots])
            made[:, : values.shape[1]] = values
        made[:, self.num_columns - len(self.tensor.free) :] = [shape[axis] for axis in self.tensor.free]
        return made

    def _numbers(self, found: Array) -> Array:
        if self.tensor.datatype == BYTES:
            return _of_texts(found)
        return widened(found) if self.tensor.datatype == BF16 else found


def _of_texts(found: Array) -> Array:
    """Length and bucket of texts [k, s]: float64 [k, 2 s]."""
    texts = found.ravel().tolist()
    lengths = np.array([len(text) for text in texts], np.float64).reshape(found.shape)
    buckets = np.array([bucket_of(text) for text in texts], np.float64).reshape(found.shape)
    return np.concatenate((lengths, buckets), axis=1)


def bucket_of(text: str) -> int:
    """The bucket of a text, 0 to ``NUM_BUCKETS`` - 1; the same on every machine."""
    return crc32(text.encode()) % NUM_BUCKETS
