"""What a row's outputs say, and whether another version's say the same. Pure.

Floating outputs with a last axis of more than one element speak by the place of their largest (a class's score);
other floating ones by their values, within ``RELATIVE``; everything else must be equal. Versions whose outputs have
other names or other shapes cannot be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from typing import Final

import numpy as np

from schemas.frame import Segment, TensorBlock
from schemas.shadow import AGREES, DIFFERS, DIGEST_BYTES, EQUAL, UNKNOWN
from streams.columns import Array, item_edges
from streams.tensors import BF16, FLOATING, WIRE_DTYPES

RELATIVE: Final = 1e-3
ABSOLUTE: Final = 1e-6

Said = tuple[str, str, tuple[int, ...], bytes]
"""Of an output: name, how it speaks (``place``, ``value``, ``exact``), shape of what it says, and that as bytes."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """``digest``: BLAKE2b of names, datatypes, shapes and bytes. ``said``: by the outputs' names."""

    digest: bytes
    said: tuple[Said, ...]


def outputs_of(segment: Segment, items: Sequence[tuple[int, int]], num_items: int) -> list[Outputs]:
    """Of the rows whose items are ``[first, end)``; ``num_items`` are those of the whole segment."""
    digests = [hashlib.blake2b(digest_size=DIGEST_BYTES) for _ in items]
    said: list[list[Said]] = [[] for _ in items]
    for block in sorted(segment.outputs, key=lambda each: each.name):
        edges = item_edges(block, num_items)
        head = f"{block.name}/{block.datatype}/{block.item_shape}/".encode()
        kind, spoken = _spoken(block, num_items)
        for at, (first, end) in enumerate(items):
            data = block.data[edges[first] : edges[end]]
            digests[at].update(head)
            digests[at].update(data)
            if spoken is None:
                said[at].append((block.name, kind, (end - first, *block.item_shape), data))
            else:
                mine = spoken[first:end]
                said[at].append((block.name, kind, mine.shape, mine.tobytes()))
    return [Outputs(digest.digest(), tuple(each)) for digest, each in zip(digests, said, strict=True)]


def agreement(one: Outputs, other: Outputs) -> int:
    """How two rows' outputs compare: an index into ``AGREEMENTS``."""
    if one.digest == other.digest:
        return EQUAL
    if [each[:3] for each in one.said] != [each[:3] for each in other.said]:
        return UNKNOWN
    return AGREES if all(_same(*both) for both in zip(one.said, other.said, strict=True)) else DIFFERS


def _spoken(block: TensorBlock, num_items: int) -> tuple[str, Array | None]:
    """How a block speaks, and its items' words ``[items, ...]``; None where these are its bytes."""
    if block.datatype not in FLOATING or 0 in block.item_shape:
        return "exact", None
    values = np.frombuffer(block.data, WIRE_DTYPES[block.datatype]).reshape(num_items, *block.item_shape)
    if block.datatype == BF16:
        values = (values.astype("<u4") << 16).view("<f4")
    if block.item_shape and block.item_shape[-1] > 1:
        return "place", values.argmax(axis=-1).astype("<i4")
    return "value", values.astype("<f8")


def _same(one: Said, other: Said) -> bool:
    if one[1] != "value":
        return one[3] == other[3]
    pairs = zip(np.frombuffer(one[3], "<f8").tolist(), np.frombuffer(other[3], "<f8").tolist(), strict=True)
    return all(isclose(mine, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE) for mine, theirs in pairs)
