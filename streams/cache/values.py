"""A cached answer as bytes: authenticated, so that whoever can write to Redis cannot answer a request. Pure.

A value is a tag of 16 bytes (HMAC-SHA-256, truncated, over its key and all that follows) and the payload: format,
instant of the fill, the memory that the row was routed by, number of batch items, what made it, and the bytes of each
output. Because the tag covers the key, a value that was copied under another key is as good as none. What made it
(``Made``) is the same for all rows of a segment, so it is written once; it does not name the batch, for then each
answer of a frame would be a segment of its own.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from struct import Struct, error
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, Segment, TensorBlock
from schemas.model import ModelVersion
from streams.cache.keys import NO_DIGEST, row_edges
from streams.columns import DATATYPE_BYTES, OK, Columns, segment_starts
from streams.tensors import count_of

TAG_BYTES: Final = 16
FORMAT: Final = 1
MAX_VALUE_BYTES: Final = 256 * 1024
"""A larger answer is not cached."""
_FRONT: Final = Struct("<BqqHI")  # format, filled_us, memory sequence, items, bytes of what made it
_KEPT_MADE: Final = 4_096

ScopeOf = Callable[[str, str, str, int], bytes | None]
"""Scope of (model, version, digest of the model that ran, memory sequence the row was routed by); None: not cached."""


@dataclass(frozen=True, slots=True)
class Made:
    """What made an answer: its provenance but for the batch, and its outputs' names, datatypes and item shapes."""

    model_digest: str
    cohort: str
    execution_provider: str
    executor: str
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An earlier answer of one row: ``items`` batch items, ``data`` in the order of ``made.outputs``.

    ``memory_sequence``: the memory that the row was routed by; ``num_bytes``: of all ``data``.
    """

    made: Made
    items: int
    filled_us: int
    memory_sequence: int
    data: tuple[bytes, ...]
    num_bytes: int


class Seal:
    """Puts values under a secret and takes them from under it. The secret is nowhere shown."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < TAG_BYTES:
            raise ValueError(f"a secret has at least {TAG_BYTES} bytes")
        self._secret = hmac.digest(secret, b"isos cache values", sha256)
        self.fingerprint = hmac.digest(secret, b"isos cache name", sha256)[:4].hex()
        self._made: dict[bytes, Made] = {}

    def close(self, field: bytes, payload: bytes) -> bytes:
        """The value of a payload under its key."""
        return hmac.digest(self._secret, field + payload, "sha256")[:TAG_BYTES] + payload

    def open(self, field: bytes, value: bytes) -> Entry | None:
        """The answer of a value, or None when this secret never put it under this key."""
        payload = value[TAG_BYTES:]
        tag = hmac.digest(self._secret, field + payload, "sha256")[:TAG_BYTES]
        if not hmac.compare_digest(tag, value[:TAG_BYTES]):
            return None
        try:
            return self._read(payload)
        except (error, ValueError, TypeError):
            return None  # written by a release with another format

    def _read(self, payload: bytes) -> Entry | None:
        form, filled_us, sequence, items, size = _FRONT.unpack_from(payload)
        if form != FORMAT:
            return None
        at = _FRONT.size + size
        head = payload[_FRONT.size : at]
        made = self._made.get(head)
        if made is None:
            if len(self._made) >= _KEPT_MADE:
                del self._made[next(iter(self._made))]
            made = self._made[head] = _made(head)
        data = []
        num_bytes = 0
        for _ in made.outputs:
            length = int.from_bytes(payload[at : at + 4], "little")
            data.append(payload[at + 4 : at + 4 + length])
            num_bytes += length
            at += 4 + length
        return Entry(made, items, filled_us, sequence, tuple(data), num_bytes) if at == len(payload) else None


def payloads(frame: InferenceFrame, digests: bytes, scope_of: ScopeOf, now_us: int) -> Iterator[tuple[bytes, bytes]]:
    """Key (32 bytes) and payload of each row of a gated frame that may be cached: OK, not itself a cached answer.

    ``digests``: 16 bytes per row, as the Router noted them.
    """
    statuses, items = np.frombuffer(frame.statuses, "|u1"), Columns.of(frame).row_items
    starts = segment_starts(frame)
    for number, segment in enumerate(frame.segments):
        if segment.cached:
            continue
        rows = slice(starts[number], starts[number + 1])
        digest = digests[rows.start * len(NO_DIGEST) : rows.stop * len(NO_DIGEST)]
        if not any(digest):
            continue
        scope = scope_of(segment.model, segment.version, segment.model_digest, frame.memory_sequence)
        if scope is not None:
            instants = (now_us, frame.memory_sequence)
            yield from _segment_payloads(
                segment, scope, digest, statuses[rows].tolist(), items[rows].tolist(), instants
            )


def _segment_payloads(
    segment: Segment,
    scope: bytes,
    digests: bytes,
    statuses: Sequence[int],
    items: Sequence[int],
    instants: tuple[int, int],
) -> Iterator[tuple[bytes, bytes]]:
    signature = [(block.name, block.datatype, block.item_shape) for block in segment.outputs]
    head = _head(segment.model_digest, segment.cohort, segment.execution_provider, segment.executor, *signature)
    blocks = [(row_edges(block, items), block.data) for block in segment.outputs]
    for row, status in enumerate(statuses):
        digest = digests[row * len(NO_DIGEST) : (row + 1) * len(NO_DIGEST)]
        if status != OK or digest == NO_DIGEST:
            continue
        parts = [_FRONT.pack(FORMAT, *instants, items[row], len(head)), head]
        for edges, data in blocks:
            part = data[edges[row] : edges[row + 1]]
            parts += (len(part).to_bytes(4, "little"), part)
        payload = b"".join(parts)
        if len(payload) <= MAX_VALUE_BYTES - TAG_BYTES:
            yield scope + digest, payload


@lru_cache(_KEPT_MADE)
def _head(
    model_digest: str, cohort: str, execution_provider: str, executor: str, *outputs: tuple[str, str, tuple[int, ...]]
) -> bytes:
    return json.dumps([model_digest, cohort, execution_provider, executor, outputs], separators=(",", ":")).encode()


def _made(head: bytes) -> Made:
    digest, cohort, provider, executor, outputs = json.loads(head)
    blocks = tuple((name, datatype, tuple(shape)) for name, datatype, shape in outputs)
    return Made(digest, cohort, provider, executor, blocks)


def widths_of(made: Made, version: ModelVersion) -> tuple[int, ...] | None:
    """Bytes per item of each output (-1: they vary), or None when they are not those of the registered version."""
    if made.model_digest != version.digest or len(made.outputs) != len(version.outputs):
        return None
    wanted = {spec.name: spec for spec in version.outputs}
    widths: list[int] = []
    for name, datatype, shape in made.outputs:
        spec = wanted.get(name)
        if spec is None or spec.datatype != datatype or len(spec.item_shape) != len(shape):
            return None
        if any(want not in (-1, length) for want, length in zip(spec.item_shape, shape, strict=True)):
            return None
        width = DATATYPE_BYTES.get(datatype, -1)
        widths.append(width * count_of(shape) if width > 0 else -1)
    return tuple(widths)


def is_whole(entry: Entry, widths: tuple[int, ...]) -> bool:
    """Whether each output has the bytes of all items."""
    for data, width in zip(entry.data, widths, strict=True):
        if width >= 0 and len(data) != width * entry.items:
            return False
    return True


def segment_of(model: str, version: str, entries: Sequence[Entry]) -> Segment:
    """The executed segment of rows that are answered by ``entries``, all of one ``Made``."""
    made = entries[0].made
    outputs = tuple(
        TensorBlock(name, datatype, shape, b"".join([entry.data[at] for entry in entries]))
        for at, (name, datatype, shape) in enumerate(made.outputs)
    )
    return Segment(
        model, version, made.cohort, len(entries), (), outputs, made.model_digest, made.execution_provider,
        made.executor, cached=True,
    )  # fmt: skip
