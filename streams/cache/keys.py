"""What an answer is cached under: 16 bytes that say what computed it and 16 that say from what. Pure.

The first part, the scope, is a digest of all that a registered version is (content digest, signature, kernels) and of
the model's epoch, so another file, another manifest or a bumped epoch have other keys; two versions of a model that
differ in their name only share theirs. The second part is a digest of the row's input: signature, number of items,
data. It travels with the row, because whoever fills the cache no longer has the input.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from schemas.frame import Segment, TensorBlock
from schemas.model import ModelVersion
from streams.canonical import to_json
from streams.columns import DATATYPE_BYTES, item_bytes, item_edges

SCOPE_BYTES: Final = 16
DIGEST_BYTES: Final = 16
FIELD_BYTES: Final = SCOPE_BYTES + DIGEST_BYTES
MAX_KEPT: Final = 1_024
NO_DIGEST: Final = bytes(DIGEST_BYTES)
"""In the place of a row that is not looked up."""


@dataclass(frozen=True, slots=True)
class CacheScope:
    """What a version's answers are cached under, 16 bytes, and for how long.

    ``since``: memory sequence of the policy; a row that was routed by an older memory may have an older epoch's answer.
    """

    scope: bytes
    ttl_us: int
    since: int


def scope_of(version: ModelVersion, epoch: int) -> bytes:
    """The scope (16 bytes) of a registered version's answers in an epoch of its model."""
    facts = to_json(replace(version, version=""))
    return blake2b(f"{epoch}\n{facts}".encode(), digest_size=SCOPE_BYTES).digest()


def input_digests(segment: Segment, row_items: Sequence[int]) -> list[bytes]:
    """Digest (16 bytes) of each row's input, ``row_items`` batch items each; inline data and a blob differ."""
    signature = tuple([(block.name, block.datatype, block.item_shape) for block in segment.inputs])
    if segment.blob is not None:
        digest = _begun("blob", signature, row_items[0]).copy()
        digest.update(segment.blob.digest.encode())
        return [digest.digest()]
    parts = [_row_data(block, row_items) for block in segment.inputs]
    digests = []
    for row, items in enumerate(row_items):
        digest = _begun("data", signature, items).copy()
        for part in parts:
            digest.update(part[row])
        digests.append(digest.digest())
    return digests


@lru_cache(MAX_KEPT)
def _begun(kind: str, signature: tuple[tuple[str, str, tuple[int, ...]], ...], items: int) -> Any:
    """The digest of an input of this signature before its data, or the name of a blob with it; to be copied."""
    return blake2b(f"{kind}\n{signature!r}\n{items}\n".encode(), digest_size=DIGEST_BYTES)


def row_edges(block: TensorBlock, row_items: Sequence[int]) -> list[int]:
    """Byte offsets of a block's rows, one more than there are rows."""
    items = [0, *itertools.accumulate(row_items)]
    if block.datatype in DATATYPE_BYTES:
        width = item_bytes(block)
        return [item * width for item in items]
    edges = item_edges(block, items[-1])
    return [edges[item] for item in items]


def _row_data(block: TensorBlock, row_items: Sequence[int]) -> list[memoryview]:
    edges, data = row_edges(block, row_items), memoryview(block.data)
    return [data[start:end] for start, end in itertools.pairwise(edges)]
