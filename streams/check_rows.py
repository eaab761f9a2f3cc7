"""Which rows of a frame are clients', and which are those of the stack's own checks: these do not count as traffic.

The edge takes ``TENANT`` from nobody else (``streams.check_id``), so the tenant says it. Pure.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.frame import InferenceFrame
from streams.check_id import TENANT
from streams.columns import Array, segment_starts


def has_checks(frame: InferenceFrame) -> bool:
    """Whether a frame may have rows of checks; it costs nearly nothing to know that it has none."""
    return TENANT in frame.tenants


def client_rows(frame: InferenceFrame) -> Array | None:
    """Which rows are clients', bool [n]; None for all of them, as nearly always."""
    if TENANT not in frame.tenants:
        return None
    numbers = [number for number, tenant in enumerate(frame.tenants) if tenant == TENANT]
    mine = ~np.isin(np.frombuffer(frame.tenant_index, "<u2"), numbers)
    return None if mine.all() else mine


class Part(NamedTuple):
    """Rows of one segment that are clients'."""

    model: str
    version: str
    num_rows: int


def client_parts(frame: InferenceFrame, mine: Array) -> tuple[Part, ...]:
    """What is left of each segment with the rows ``mine`` (bool [n]); segments of which nothing is are left out."""
    starts = segment_starts(frame)
    counts = [int(np.count_nonzero(mine[first:end])) for first, end in pairwise(starts)]
    return tuple([Part(each.model, each.version, num) for each, num in zip(frame.segments, counts, strict=True) if num])


def checked_models(frame: InferenceFrame, mine: Array) -> set[str]:
    """Models that the other rows are of."""
    starts = segment_starts(frame)
    return {each.model for at, each in enumerate(frame.segments) if not mine[starts[at] : starts[at + 1]].all()}


def picked(column: bytes, dtype: str, mine: Array) -> bytes:
    """A column (see ``schemas.frame``) of the rows ``mine`` only."""
    return np.frombuffer(column, dtype)[mine].tobytes()
