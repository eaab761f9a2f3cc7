"""Shadow copies: rows of a model that another version runs too, for comparison only.

The pure part of the Router's. Where a model's plan names a shadow, its share of the rows is copied: by CRC-32 of a
salt, the model and the routing key (else the request id), modulo 100, so that the same keys are copied as long as the
share stands, and more of them, none fewer, when it grows. A copy has the role SHADOW, the least urgent priority and at
most ``PATIENCE_US`` to live, and goes to the lane of its row. Executors give it time that nobody else wants.

Copies are the first to go: at most ``MOST_UNDER_WAY`` of a source partition are under way, by what the Router hears of
executed frames, and what is above it is not copied. A lane that has no time for copies so gets no more of them.

Not copied: rows that are tried again, rows whose request names a version, rows with a blob, rows of ordered models,
rows that the shadow itself serves, rows that ended before, and what the cache answers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from agents.retry import PINNED
from schemas.frame import InferenceFrame, Segment
from schemas.quick import replaced
from schemas.shadow import Shadow
from streams.columns import PENDING, SHADOW, Array, request_ids, routing_keys, take
from streams.frame_effects import Answered, SendFrame
from streams.memory_view import MemoryView
from streams.shadow_view import shadows

MOST_UNDER_WAY: Final = 1_024
PATIENCE_US: Final = 5_000_000
PRIORITY: Final = 9
"""The least urgent one."""
COHORT: Final = "shadow"
SALT: Final = b"shadow/"
_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """What one source partition's Router knows of copies under way; never written in place.

    ``offsets`` and ``ends_us`` (int64): whose copies, and when nobody waits for them any more.
    """

    offsets: Array = field(default_factory=lambda: _NONE)
    ends_us: Array = field(default_factory=lambda: _NONE)
    num_copied: int = 0
    num_skipped: int = 0


def is_chosen(model: str, key: bytes, percent: int) -> bool:
    """Whether rows of a sticky key belong to the share of a model's rows that is copied."""
    return zlib.crc32(key, zlib.crc32(model.encode(), zlib.crc32(SALT))) % 100 < percent


def chosen_rows(frame: InferenceFrame, wanted: Mapping[str, Shadow]) -> list[int]:
    """Numbers of the frame's rows that belong to the shares of ``wanted``, by model; ascending."""
    rows: list[int] = []
    texts: list[tuple[bytes, bytes]] = []
    first = 0
    for segment in frame.segments:
        shadow = wanted.get(segment.model)
        if shadow is not None and may_have_copies(segment, shadow):
            if not texts:
                texts += zip(routing_keys(frame), request_ids(frame), strict=True)
            mine = texts[first : first + segment.num_rows]
            rows += [
                at
                for at, (key, request_id) in enumerate(mine, start=first)
                if is_chosen(segment.model, key or request_id, shadow.percent)
            ]
        first += segment.num_rows
    return rows


def may_have_copies(segment: Segment, shadow: Shadow) -> bool:
    """Whether rows of a segment may be copied at all."""
    return segment.cohort != PINNED and segment.blob is None and segment.version != shadow.version


def copied(
    copies: Copies | None, sent: Sequence[Any], memory: MemoryView, now_us: int
) -> tuple[Copies | None, tuple[SendFrame, ...]]:
    """Copy the shadows' shares of the frames that are routed now; None as long as there was never a copy."""
    wanted = shadows(memory)
    frames: list[SendFrame] = []
    for each in sent:
        if isinstance(each, SendFrame) and each.topic == "inference.routed" and not any(each.frame.roles):
            statuses = each.frame.statuses
            rows = [row for row in chosen_rows(each.frame, wanted) if statuses[row] == PENDING]
            if rows:
                copies, made = _copied(copies or Copies(), each, rows, wanted, now_us)
                frames += made
    return copies, tuple(frames)


def _copied(
    copies: Copies, sent: SendFrame, rows: list[int], wanted: Mapping[str, Shadow], now_us: int
) -> tuple[Copies, list[SendFrame]]:
    copies = _expired(copies, now_us)
    room = max(0, MOST_UNDER_WAY - len(copies.offsets))
    copies = replace(copies, num_skipped=copies.num_skipped + max(0, len(rows) - room))
    if not room:
        return copies, []
    part = take(sent.frame, np.array(rows[:room], np.int64))
    count = len(part.statuses)
    ends_us = np.minimum(np.frombuffer(part.deadlines_us, "<i8"), now_us + PATIENCE_US)
    segments = tuple(
        [replace(segment, version=wanted[segment.model].version, cohort=COHORT) for segment in part.segments]
    )
    frame = replaced(
        part, segments=segments, roles=bytes([SHADOW]) * count, priorities=bytes([PRIORITY]) * count,
        deadlines_us=ends_us.astype("<i8").tobytes(), input_digests=None,
    )  # fmt: skip
    copies = replace(
        copies,
        offsets=np.concatenate((copies.offsets, np.frombuffer(part.offsets, "<i8"))),
        ends_us=np.concatenate((copies.ends_us, ends_us)),
        num_copied=copies.num_copied + count,
    )
    return copies, [SendFrame(sent.topic, sent.partition, frame)]


def _expired(copies: Copies, now_us: int) -> Copies:
    """Without the copies that nobody waits for any more."""
    left = copies.ends_us > now_us
    return copies if left.all() else replace(copies, offsets=copies.offsets[left], ends_us=copies.ends_us[left])


def heard(copies: Copies | None, news: Any) -> Copies | None:
    """Take news of executed frames: copies that ended, however they did, are under way no more."""
    if copies is None or not isinstance(news, Answered):
        return copies
    ended = news.offsets[news.roles == SHADOW]
    left = ~np.isin(copies.offsets, ended) if len(ended) else None
    if left is None or left.all():
        return copies
    return replace(copies, offsets=copies.offsets[left], ends_us=copies.ends_us[left])
