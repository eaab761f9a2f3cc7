"""Decisions of the Router on sampled frames, as notes that can be derived again. Pure.

A sampled frame is one that arrives for the first time and whose number is a multiple of ``sample_every``; chance has no
part in it. The note holds the frame without tensors, less rows answered from the cache (which no memory tells), and a
digest of all that was sent. Retries are not noted: whether they may go on depends on what came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from schemas.decision import RoutedRows
from schemas.frame import InferenceFrame
from streams.agent import Event
from streams.cache.lookup import answered
from streams.canonical import digest
from streams.columns import take
from streams.frame_effects import Defer, NoteDecision, SendFrame

DEFERRED: Final = "deferred"


def is_sampled(frame: InferenceFrame, event: Event, sample_every: int) -> bool:
    """Whether a frame's decision is noted; ``sample_every`` 0: none is."""
    if not sample_every or frame.frame_id % sample_every:
        return False
    return not frame.attempt and event.coordinate.offset >= 0


def note(frame: InferenceFrame, event: Event, effects: Sequence[SendFrame | Defer]) -> NoteDecision | None:
    """The note of what was decided on a frame; None where all of its rows were answered from the cache."""
    rest = _without_hits(frame, event)
    if rest is None:
        return None
    sent = [effect for effect in effects if not _is_from_cache(effect)]
    return NoteDecision(stripped(rest), event.now_us, event.answers.sequence, rows_of(sent), outcome_of(sent))


def stripped(frame: InferenceFrame) -> InferenceFrame:
    """The frame without tensors and blobs."""
    return replace(
        frame, segments=tuple([replace(segment, inputs=(), outputs=(), blob=None) for segment in frame.segments])
    )


def rows_of(effects: Sequence[SendFrame | Defer]) -> tuple[RoutedRows, ...]:
    """Which rows went where, segment by segment."""
    found: list[RoutedRows] = []
    for effect in effects:
        topic, partition = (effect.topic, effect.partition) if isinstance(effect, SendFrame) else (DEFERRED, -1)
        for each in effect.frame.segments:
            found.append(RoutedRows(topic, partition, each.model, each.version, each.num_rows))
    return tuple(found)


def outcome_of(effects: Sequence[SendFrame | Defer]) -> bytes:
    """SHA-256 of the effects without tensors."""
    plain = [
        (effect.topic, effect.partition, stripped(effect.frame))
        if isinstance(effect, SendFrame)
        else (DEFERRED, effect.until_us, stripped(effect.frame))
        for effect in effects
    ]
    return digest(tuple(plain))


def _without_hits(frame: InferenceFrame, event: Event) -> InferenceFrame | None:
    if event.looked_up is None:
        return frame
    late = np.frombuffer(frame.deadlines_us, "<i8") <= event.now_us
    hits, _ = answered(frame, event.looked_up, event.answers, late, event.now_us)
    rows = np.flatnonzero(~hits)
    asked = replace(frame, input_digests=event.looked_up.lookup.digests)
    return take(asked, rows) if len(rows) else None


def _is_from_cache(effect: SendFrame | Defer) -> bool:
    return isinstance(effect, SendFrame) and all(segment.cached for segment in effect.frame.segments)
