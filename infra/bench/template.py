"""Requests by splicing: what is constant is encoded once, a request writes its id and its row.

Value = prefix (00, schema id) + request id + head + row + tail; head and tail are cut out of one encoded request.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.request import InferenceRequest, Tensor
from streams.codec import encode_body
from streams.varint import write_string

ITEM_BYTES: Final = {"FP32": 4, "FP64": 8, "INT64": 8, "INT32": 4, "UINT8": 1}
POOL_ROWS: Final = 256
POOL_BYTES: Final = 1 << 24  # large rows make a smaller pool
HOT_ROWS: Final = 64
_CYCLE: Final = 1009  # requests after which the choice of repeated ones begins anew; a prime, so no mix is in step


@dataclass(frozen=True, slots=True)
class Load:
    """One model of the mix: its input tensor (``item_shape`` excludes the batch axis) and its share of the traffic.

    ``priority``: 0 (first) to 9. ``repeats``: share of its requests, 0 to 1, that carry one of ``HOT_ROWS`` rows again.
    ``garbage``: its requests are the same bytes behind a prefix that is none, so that nobody can read them.
    """

    model: str
    tensor: str = "x"
    datatype: str = "FP32"
    item_shape: tuple[int, ...] = (256,)
    weight: float = 1.0
    priority: int = 5
    repeats: float = 0.0
    garbage: bool = False

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return ITEM_BYTES[self.datatype] * math.prod(self.item_shape)


@dataclass(frozen=True, slots=True)
class Template:
    """The constant parts of one model's requests; ``row_bytes`` of data go between ``head`` and ``tail``."""

    prefix: bytes
    head: bytes
    tail: bytes
    row_bytes: int

    def value(self, request_id: str, row: bytes) -> bytes:
        """Value of the record: ``request_id`` of 1 to 64 characters, ``row`` of ``row_bytes`` bytes."""
        return b"".join((self.prefix, write_string(request_id), self.head, row, self.tail))


def template(load: Load, schema_id: int, *, timeout_ms: int = 0, tenant: str = "default") -> Template:
    """Cut the template of a model's requests out of one encoded request."""
    marker = np.random.default_rng(0).bytes(load.row_bytes)
    tensor = Tensor(load.tensor, load.datatype, (1, *load.item_shape), marker)
    body = encode_body(
        "InferenceRequest",
        InferenceRequest("i", load.model, (tensor,), tenant=tenant, priority=load.priority, timeout_ms=timeout_ms),
    )
    at = body.index(marker)
    prefix = (b"\xff" if load.garbage else b"\x00") + schema_id.to_bytes(4, "big")
    return Template(prefix, body[len(write_string("i")) : at], body[at + len(marker) :], load.row_bytes)


class Rows:
    """Rows that are all different, so that no cache and no coalescing makes the load lighter than it is.

    FP32 rows are normal deviates whose first element counts up; other datatypes are small integers or random bytes
    whose first bytes count up. ``Load.repeats`` of the requests are the exception.
    """

    def __init__(self, load: Load, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._counter = struct.Struct("<f") if load.datatype == "FP32" else struct.Struct("<I")
        self._pool = [_random_row(load, rng) for _ in range(_pool_size(load))]
        # A row shorter than the counter cannot count; then rows repeat after the pool.
        self._counted = load.datatype in ("FP32", "UINT8") and load.row_bytes >= 4
        self._tails = [row[4:] for row in self._pool]
        self._repeated = (rng.random(_CYCLE) < load.repeats).tolist() if load.repeats else None

    def row(self, index: int) -> bytes:
        """Row of the ``index``-th request."""
        which = index % len(self._pool)
        if self._repeated is not None and self._repeated[index % _CYCLE]:
            return self._pool[which % HOT_ROWS]
        if not self._counted:
            return self._pool[which]
        count = index * 1e-7 if self._counter.format == "<f" else index & 0xFFFFFFFF
        return self._counter.pack(count) + self._tails[which]


def _pool_size(load: Load) -> int:
    return max(4, min(POOL_ROWS, POOL_BYTES // max(load.row_bytes, 1)))


def _random_row(load: Load, rng: np.random.Generator) -> bytes:
    match load.datatype:
        case "FP32":
            return rng.standard_normal(load.item_shape).astype("<f4").tobytes()
        case "FP64":
            return rng.standard_normal(load.item_shape).astype("<f8").tobytes()
        case "INT32" | "INT64":
            return rng.integers(0, 100, load.item_shape).astype("<i4" if load.datatype == "INT32" else "<i8").tobytes()
        case _:
            return rng.bytes(load.row_bytes)
