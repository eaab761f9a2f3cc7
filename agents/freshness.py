"""How old a Router's knowledge of memory may be: fresh, ageing, or silent, when no more is routed by it. Pure.

A sign of life is a heartbeat of an Orchestrator whose memory the Router has read as far as the heartbeat says, or an
event of memory itself. That memory does not change is no silence, and what the Router slept through itself is none
either (``pause_us``). Past half of ``bound_us`` it is ageing: rows go on by the plans that are known. Past the bound it
is silent: every row ends with ``memory_silent``, as rejected, so that it counts against no version's SLO, and may be
sent again; one that failed before and was to be tried again ends with what it failed with. A Router that begins takes
what it read at its start for fresh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from agents.retry import failed_for_good
from schemas.frame import InferenceFrame, RowError
from streams.columns import EXPIRED, REJECTED, Array, end_rows, take
from streams.frame_effects import SendFrame
from streams.memory_view import MemoryView

AGAIN_MS: Final = 5_000
NEVER: Final = 0
LATE: Final = (EXPIRED, "deadline_exceeded", "the deadline passed before it was routed", NEVER)
SILENT: Final = (
    REJECTED,
    "memory_silent",
    "nothing was heard of memory for too long, so its plans are not routed by any more",
    AGAIN_MS,
)

Level = Literal["fresh", "ageing", "silent"]


@dataclass(frozen=True, slots=True)
class FreshnessParams:
    """Microseconds: silence past which nothing is routed; own pause after which listening begins anew."""

    bound_us: int = 600_000_000
    pause_us: int = 5_000_000


@dataclass(frozen=True, slots=True)
class Freshness:
    """``heard_us``: the last sign of life; ``looked_us``: when that was judged last, by memory of ``sequence``.

    A heartbeat of ``said_us`` (0: none) speaks of memory up to ``said_sequence``, which is not read yet.
    """

    heard_us: int
    looked_us: int
    sequence: int = 0
    said_sequence: int = 0
    said_us: int = 0

    def silent_us(self, now_us: int) -> int:
        """How long nothing was heard."""
        return max(0, now_us - self.heard_us)


def hear(state: Freshness, sequence: int, now_us: int) -> Freshness:
    """A heartbeat of an Orchestrator that wrote memory up to ``sequence``; a standby (0) says nothing of memory."""
    if not sequence:
        return state
    return replace(state, said_sequence=sequence, said_us=now_us)


def look(state: Freshness, sequence: int, now_us: int, params: FreshnessParams) -> tuple[Freshness, Level]:
    """Judge by memory as it is read now, up to ``sequence``; at least every ``pause_us``."""
    heard_us = state.heard_us
    if now_us - state.looked_us > params.pause_us or now_us < state.looked_us or sequence > state.sequence:
        heard_us = now_us
    if state.said_us and state.said_sequence <= sequence:
        heard_us = max(heard_us, state.said_us)
        state = replace(state, said_us=0, said_sequence=0)
    state = replace(state, heard_us=heard_us, looked_us=now_us, sequence=sequence)
    past_us = state.silent_us(now_us)
    if past_us >= params.bound_us:
        return state, "silent"
    return state, "ageing" if 2 * past_us >= params.bound_us else "fresh"


def refused(frame: InferenceFrame, memory: MemoryView, now_us: int) -> list[SendFrame]:
    """All rows of a frame end: because they are too late, or memory is silent; those of retries as they failed."""
    if frame.attempt:
        return [failed_for_good(frame, now_us)]
    late = np.frombuffer(frame.deadlines_us, "<i8") <= now_us
    sent: list[SendFrame] = []
    if late.any():
        sent.append(_ended(frame, late, memory, now_us, LATE))
    if not late.all():
        sent.append(_ended(frame, ~late, memory, now_us, SILENT))
    return sent


def _ended(
    frame: InferenceFrame, mask: Array, memory: MemoryView, now_us: int, ending: tuple[int, str, str, int]
) -> SendFrame:
    """The masked rows with a status, a code, a sentence, and when they may come again (ms)."""
    part = take(frame, np.flatnonzero(mask))
    status, code, message, again_ms = ending
    bare = end_rows(part, status, [RowError(at, code, message, again_ms) for at in range(len(part.statuses))])
    ended = replace(bare, memory_sequence=memory.sequence, routed_us=now_us, attempt=0, not_before_us=0)
    return SendFrame("inference.executed", frame.partition, ended)
