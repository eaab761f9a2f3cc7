"""Rows that failed in passing and come back on ``inference.retries``: whether, when and as what they are routed again.

Pure. A retried frame's segments name the version that the rows failed on, its ``errors`` what each failed with, and
``not_before_us`` when it may go on. Its rows end with their last error, which says more than that time is up, where
their deadline has passed, or where the model's retries are used up (``streams.retry_budget``); the others wait, and are
then routed as others are. Rows whose request names a version keep it: they are marked at their first routing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, RowError, Segment
from streams.columns import ERROR, Array, end_rows, num_rows, take
from streams.frame_effects import Defer, SendFrame
from streams.lane_class import lanes_beside
from streams.retry_budget import Tokens, earned, spent

PINNED: Final = "pinned"
"""Cohort of rows whose request names a version."""


def pinned_version(frame: InferenceFrame, segment: Segment) -> str:
    """The version that the segment's requests name, or an empty string."""
    return segment.version if frame.attempt == 0 or segment.cohort == PINNED else ""


def failed_version(frame: InferenceFrame, segment: Segment) -> str:
    """The version that the segment's rows failed on before, or an empty string."""
    return segment.version if frame.attempt else ""


def cohort_of(frame: InferenceFrame, segment: Segment) -> str:
    """The cohort of a segment that is routed now."""
    return PINNED if pinned_version(frame, segment) else segment.cohort


def lane_of(
    frame: InferenceFrame, home: int, planned: int, num_lanes: int, num_slow: int, replicas: int | None = None
) -> int:
    """The lane of a frame's rows that were first sent to ``home``, by their plan's ``planned``.

    For a retry another one in use of the class, where there is one and no plan says which: what failed may be its
    executor.
    """
    others = lanes_beside(home, num_lanes, num_slow, replicas) if frame.attempt and planned < 0 else ()
    return others[(frame.attempt - 1) % len(others)] if others else home


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a frame that came back: ``left`` may be routed now (None: nothing), some rows ended or wait."""

    left: InferenceFrame | None
    tokens: Tokens
    effects: tuple[SendFrame | Defer, ...]
    num_ended: int = 0
    num_waiting: int = 0


def retried(frame: InferenceFrame, tokens: Tokens, now_us: int, *, arrives: bool) -> Retried:
    """Take a frame of retries; it pays for them when it ``arrives``, not when it comes back from waiting."""
    ends = np.frombuffer(frame.deadlines_us, "<i8") <= now_us
    if arrives:
        tokens, refused = _refused(frame, tokens, ends)
        ends = ends | refused
    effects: list[SendFrame | Defer] = []
    num_ended = int(np.count_nonzero(ends))
    left: InferenceFrame | None = frame
    if num_ended:
        effects.append(failed_for_good(take(frame, np.flatnonzero(ends)), now_us))
        left = take(frame, np.flatnonzero(~ends)) if num_ended < len(ends) else None
    if left is None or now_us >= left.not_before_us:
        return Retried(left, tokens, tuple(effects), num_ended)
    effects.append(Defer(left, left.not_before_us))
    return Retried(None, tokens, tuple(effects), num_ended, num_rows(left))


def first_tries(frame: InferenceFrame, tokens: Tokens) -> Tokens:
    """The budgets after a frame of rows that were not tried before."""
    for segment in frame.segments:
        if segment.model in tokens:
            tokens = earned(tokens, segment.model, segment.num_rows)
    return tokens


def _refused(frame: InferenceFrame, tokens: Tokens, late: Array) -> tuple[Tokens, Array]:
    """The budgets after the frame, and the rows (bool) that there was no token for; those in ``late`` need none."""
    refused = np.zeros(len(late), bool)
    first = 0
    for segment in frame.segments:
        rows = np.flatnonzero(~late[first : first + segment.num_rows]) + first
        tokens, granted = spent(tokens, segment.model, len(rows))
        refused[rows[granted:]] = True
        first += segment.num_rows
    return tokens, refused


def failed_for_good(frame: InferenceFrame, now_us: int) -> SendFrame:
    """All rows of a frame that came back end with what they failed with."""
    known = {error.row: error for error in frame.errors}
    lost = RowError(0, "internal", "it was tried again, and what it failed with is not known")
    errors = [replace(known.get(row, lost), row=row) for row in range(num_rows(frame))]
    ended = replace(end_rows(frame, ERROR, errors), routed_us=now_us, attempt=0, not_before_us=0)
    return SendFrame("inference.executed", frame.partition, ended)
