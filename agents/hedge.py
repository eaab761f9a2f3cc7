"""Hedging: a row that takes longer than most of its model's rows is sent once more, to another lane.

The pure part of the Router's. Only rows of models whose plan says ``hedge`` are kept in mind: those that were routed
and that no executed frame answers yet, with the frames they left in, both bounded. Once a row is older than the p95 of
its model's rows (from routed to executed, as the Router hears of it; the first ``MIN_SAMPLES`` rows are not hedged), a
copy with the role HEDGE goes to a lane of the same class, of another executor where it is known who reads which lane.
A model's copies are at most ``1 / COST`` of its rows; some are kept for rows that are older still. The first OK counts;
the Validator drops what comes second, and every copy that did not end well.

Not hedged: rows with a blob, rows of ordered models, rows that are tried again, rows whose time left is less than the
median, and all that a predecessor routed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from agents.latency import UNKNOWN, Latencies
from agents.under_way import (
    COPY,
    DEADLINE_US,
    KEPT,
    LANE,
    MODEL,
    NO_COPY,
    NO_ROWS,
    NOWHERE,
    OFFSET,
    ROW,
    SENT_US,
    merged,
    num_bytes,
    rows_of,
)
from schemas.frame import InferenceFrame
from schemas.quick import replaced
from streams.columns import HEDGE, OK, PRIMARY, Array, take
from streams.frame_effects import Answered, Followed, SendFrame
from streams.lane_class import POOL, lanes_beside
from streams.memory_view import MemoryView, derived, models, ordered_models, plan, replicas

MIN_SAMPLES: Final = 100
COST: Final = 20
"""Rows of a model for which one copy may be sent."""
BURST: Final = 20
"""Copies that may be saved up."""
RESERVE: Final = 10
"""Copies that are kept for rows older than twice the p95: the usual tail must not leave nothing for an executor that
stands still."""
TICK_US: Final = 10_000
MEASURE_US: Final = 100_000
MAX_BYTES: Final = 8 << 20
NEVER: Final = 1 << 62

_NO_NUMBERS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Kept:
    """A routed frame, of which some rows may be sent again."""

    frame: InferenceFrame
    num_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Hedging:
    """What one source partition's Router knows of rows under way; never written in place.

    ``names``: a number per model. ``rows``: by offset. ``kept``: frames by number, oldest first; rows of a frame older
    than ``oldest`` are only waited for. ``waits_us`` (p95) and ``medians_us`` per model. ``credits``: rows routed and
    not used up, ``COST`` of them make a copy. ``served``: who was heard of last from a lane. ``due_us``: when the next
    look is due. ``num_alone``: rows that no other executor could have been given.
    """

    names: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    rows: Array = field(default_factory=lambda: NO_ROWS)
    kept: Mapping[int, Kept] = field(default_factory=lambda: MappingProxyType({}))
    kept_bytes: int = 0
    oldest: int = 0
    next_number: int = 0
    latencies: Latencies = field(default_factory=Latencies.none)
    waits_us: Array = field(default_factory=lambda: _NO_NUMBERS)
    medians_us: Array = field(default_factory=lambda: _NO_NUMBERS)
    credits: Array = field(default_factory=lambda: _NO_NUMBERS)
    served: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    followed: bool = False
    due_us: int = NEVER
    measured_us: int = 0
    num_hedged: int = 0
    num_alone: int = 0


def hedged_models(memory: MemoryView) -> frozenset[str]:
    """Models whose plan says that their rows are hedged, and whose answers need no order."""
    return derived(memory, ("hedged",), lambda: frozenset(name for name in models(memory) if _is_hedged(memory, name)))


def _is_hedged(memory: MemoryView, name: str) -> bool:
    effective = plan(memory, name)
    return effective is not None and effective.hedge and name not in ordered_models(memory)


def watched(hedging: Hedging | None, sent: Sequence[SendFrame], memory: MemoryView, now_us: int) -> Hedging | None:
    """With the rows of hedged models in frames that are routed now; None while there was never such a row."""
    wanted = hedged_models(memory)
    frames = [
        each
        for each in sent
        if each.topic == "inference.routed"
        and each.frame.attempt == 0
        and not any(each.frame.roles)
        and any(segment.model in wanted for segment in each.frame.segments)
    ]
    if not frames:
        return hedging
    hedging = _knowing(hedging or Hedging(), wanted)
    kept, number, size = dict(hedging.kept), hedging.next_number, hedging.kept_bytes
    subjects = {name: hedging.names[name] for name in wanted}
    parts: list[Array] = []
    for each in frames:
        rows = rows_of(each.frame, each.partition, number, subjects, now_us)
        if rows.shape[1]:
            kept[number] = Kept(each.frame, num_bytes(each.frame))
            size += kept[number].num_bytes
            number += 1
            parts.append(rows)
    if not parts:
        return hedging
    while size > MAX_BYTES:
        size -= kept.pop(next(iter(kept))).num_bytes
    new = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    earned = np.bincount(new[MODEL], minlength=len(hedging.credits))
    return replace(
        hedging,
        rows=merged(hedging.rows, new),
        kept=MappingProxyType(kept),
        kept_bytes=size,
        oldest=next(iter(kept), number),
        next_number=number,
        credits=np.minimum(hedging.credits + earned, COST * BURST),
        due_us=min(hedging.due_us, now_us + TICK_US),
    )


def _knowing(hedging: Hedging, wanted: frozenset[str]) -> Hedging:
    new = sorted(wanted - hedging.names.keys())
    if not new:
        return hedging
    names = {**hedging.names, **{name: len(hedging.names) + at for at, name in enumerate(new)}}
    unknown = np.full(len(new), UNKNOWN)
    return replace(
        hedging,
        names=MappingProxyType(names),
        latencies=hedging.latencies.for_subjects(len(names)),
        waits_us=np.concatenate((hedging.waits_us, unknown)),
        medians_us=np.concatenate((hedging.medians_us, unknown)),
        credits=np.concatenate((hedging.credits, np.zeros(len(new), np.int64))),
    )


def heard(hedging: Hedging | None, news: Answered | Followed, now_us: int) -> Hedging | None:
    """Take news of executed frames."""
    if isinstance(news, Answered):
        return None if hedging is None else _answered(hedging, news, now_us)
    hedging = hedging or Hedging()
    return replace(  # what is under way may have been answered unheard
        hedging, followed=news.on, rows=NO_ROWS, kept=MappingProxyType({}), kept_bytes=0, oldest=hedging.next_number
    )


def _answered(hedging: Hedging, news: Answered, now_us: int) -> Hedging:
    """Without the rows that are answered; those that went well say how long their model takes, and who reads a lane."""
    rows = hedging.rows
    if not rows.shape[1]:
        return hedging
    at = np.minimum(rows[OFFSET].searchsorted(news.offsets), rows.shape[1] - 1)
    went_well = news.statuses == OK
    counts = (rows[OFFSET, at] == news.offsets) & ((news.roles == PRIMARY) | (news.roles == HEDGE) & went_well)
    if not counts.any():
        return hedging
    hit = rows[:, at[counts]]
    ran, by_copy = hit[:, went_well[counts]], news.roles[counts] == HEDGE
    lanes = np.where(by_copy, hit[COPY], hit[LANE])
    left = np.ones(rows.shape[1], bool)
    left[at[counts]] = False
    return replace(
        hedging,
        rows=rows[:, left],
        latencies=hedging.latencies.plus(ran[MODEL], np.maximum(now_us - ran[SENT_US], 0)),
        served=_served(hedging.served, lanes, news.executor),
    )


def _served(served: Mapping[int, str], lanes: Array, executor: str) -> Mapping[int, str]:
    news = {lane: executor for lane in set(lanes.tolist()) if lane >= 0 and served.get(lane) != executor}
    return MappingProxyType({**served, **news}) if executor and news else served


def hedged(
    hedging: Hedging, memory: MemoryView, num_lanes: int, num_slow: int, now_us: int, *, may_send: bool = True
) -> tuple[Hedging, tuple[SendFrame, ...]]:
    """Send copies of the rows that take too long, if ``may_send``; all is forgotten when no plan wants it any more."""
    wanted = hedged_models(memory)
    if not wanted:
        return Hedging(followed=hedging.followed), ()
    if not hedging.measured_us <= now_us < hedging.measured_us + MEASURE_US:
        hedging = _measured(hedging, wanted, now_us)
    hedging = replace(hedging, due_us=now_us + TICK_US if hedging.rows.shape[1] else NEVER)
    chosen = _chosen(hedging, now_us) if hedging.followed and may_send else []
    if not chosen:
        return hedging, ()
    rows, credit = hedging.rows.copy(), hedging.credits.copy()
    effects: list[SendFrame] = []
    num_alone = 0
    ready = replicas(memory, POOL)
    in_use = None if ready is None else ready.replicas
    for number, lane, mine in _by_frame(rows, chosen):
        target = _target(lane, lanes_beside(lane, num_lanes, num_slow, in_use), hedging.served)
        rows[COPY, mine] = NOWHERE if target is None else target
        if target is None:
            num_alone += len(mine)
            continue
        np.subtract.at(credit, rows[MODEL, mine], COST)
        effects.append(SendFrame("inference.routed", target, _copy(hedging.kept[number], rows[ROW, mine], now_us)))
    num_hedged = hedging.num_hedged + len(chosen) - num_alone
    hedging = replace(
        hedging, rows=rows, credits=credit, num_hedged=num_hedged, num_alone=hedging.num_alone + num_alone
    )
    return hedging, tuple(effects)


def _measured(hedging: Hedging, wanted: frozenset[str], now_us: int) -> Hedging:
    """With new quantiles, and without rows and frames that nothing waits for."""
    waits_us, medians_us = hedging.latencies.quantiles((95, 50), at_least=MIN_SAMPLES)
    rows = hedging.rows
    is_wanted = np.array([name in wanted for name in hedging.names], bool)
    rows = rows[:, (rows[DEADLINE_US] > now_us) & is_wanted[rows[MODEL]]]
    needed = set(rows[KEPT, rows[COPY] == NO_COPY].tolist())
    kept = {number: each for number, each in hedging.kept.items() if number in needed}
    return replace(
        hedging, rows=rows, kept=MappingProxyType(kept), kept_bytes=sum([each.num_bytes for each in kept.values()]),
        oldest=next(iter(kept), hedging.next_number), waits_us=waits_us, medians_us=medians_us, measured_us=now_us,
    )  # fmt: skip


def _chosen(hedging: Hedging, now_us: int) -> list[int]:
    """Places of the rows to send once more, the oldest offsets of each model first, as far as its credit goes."""
    rows, subjects = hedging.rows, hedging.rows[MODEL]
    ages_us, waits_us = now_us - rows[SENT_US], hedging.waits_us[subjects]
    slow = (
        (rows[COPY] == NO_COPY)
        & (rows[KEPT] >= hedging.oldest)
        & (ages_us >= waits_us)
        & (rows[DEADLINE_US] - now_us > hedging.medians_us[subjects])
    )
    chosen: list[int] = []
    left = (hedging.credits // COST).tolist()
    for place in np.flatnonzero(slow).tolist():
        subject = subjects[place]
        if left[subject] > (RESERVE if ages_us[place] < 2 * waits_us[place] else 0):
            left[subject] -= 1
            chosen.append(place)
    return chosen


def _by_frame(rows: Array, chosen: list[int]) -> list[tuple[int, int, Array]]:
    """Number and lane of each frame, and its chosen places by row."""
    groups: dict[int, list[int]] = {}
    for place in chosen:
        groups.setdefault(int(rows[KEPT, place]), []).append(place)
    found = []
    for number, places in groups.items():
        mine = np.array(sorted(places, key=lambda place: int(rows[ROW, place])), np.int64)
        found.append((number, int(rows[LANE, mine[0]]), mine))
    return found


def _target(lane: int, others: Sequence[int], served: Mapping[int, str]) -> int | None:
    """The first of the other lanes that another executor reads, as far as is known; None where there is none."""
    here = served.get(lane)
    for known in (True, False):
        for other in others:
            if (other in served) == known and (here is None or served.get(other) != here):
                return other
    return None


def _copy(kept: Kept, rows: Array, now_us: int) -> InferenceFrame:
    copied = take(kept.frame, rows)
    return replaced(copied, roles=bytes([HEDGE]) * len(rows), routed_us=now_us)
