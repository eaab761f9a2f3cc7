"""Router: which version serves each row, and in which lane.

Consumes ``inference.admitted`` (one state per source partition), watches ``memory.events`` (arrives as
``Event.answers``). Emits ``inference.routed`` (partition = lane) and, for rows that end here, ``inference.executed``
(partition = the source partition).

Rule: routing = f(frame, memory at the sequence noted in the routed frame, the frame's columns). The Router never
guesses: a row whose model has no effective plan waits at most ``hold_us`` or until its deadline, then ends with
``no_plan``, while the others of its frame go on. Nothing is kept beside what ``Defer`` gives back to the interpreter.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, RowError, Segment
from schemas.plan import Plan
from streams.agent import AgentSpec, Effects, Event, Tick
from streams.columns import (
    ERROR,
    EXPIRED,
    Array,
    Columns,
    end_rows,
    num_rows,
    request_ids,
    routing_keys,
    segment_starts,
    take,
)
from streams.frame_effects import Defer, SendFrame
from streams.memory_view import MemoryView, plan

NEVER: Final = 0


@dataclass(frozen=True, slots=True)
class RouterParams:
    """``num_lanes`` partitions of ``inference.routed``; ``hold_us`` how long a row waits for a plan."""

    num_lanes: int = 2
    hold_us: int = 2_000_000


@dataclass(frozen=True, slots=True)
class RouterState:
    """Counts since the take-over; routing itself has no state."""

    num_rows: int = 0
    num_deferred: int = 0
    num_ended: int = 0


def decide(state: RouterState, event: Event, params: RouterParams) -> tuple[RouterState, Effects]:
    """Route one frame, or one that was deferred."""
    match event.record:
        case InferenceFrame() as frame:
            return _route(state, frame, event.now_us, event.answers, params)
        case Tick():
            return state, ()
    raise TypeError(f"the Router takes frames, not {type(event.record).__name__}")


def _route(
    state: RouterState, frame: InferenceFrame, now_us: int, memory: MemoryView, params: RouterParams
) -> tuple[RouterState, Effects]:
    columns = Columns.of(frame)
    late = columns.deadlines_us <= now_us
    choice = _choose(frame, memory, params.num_lanes)
    unplanned = choice.lanes < 0
    wait_until = np.minimum(columns.deadlines_us, frame.created_us + params.hold_us)
    given_up = unplanned & (wait_until <= now_us) & ~late
    held = unplanned & ~late & ~given_up
    effects: list[SendFrame | Defer] = []
    if late.any():
        effects.append(
            _ended(frame, late, EXPIRED, "deadline_exceeded", "the deadline passed before it was routed", now_us)
        )
    if given_up.any():
        effects.append(
            _ended(frame, given_up, ERROR, "no_plan", "no plan became effective for this model in time", now_us)
        )
    if held.any():
        rows = np.flatnonzero(held)
        effects.append(Defer(take(frame, rows), int(wait_until[rows].min())))
    going = ~late & ~unplanned
    if going.any():
        effects += _sent(frame, going, choice, memory.sequence, now_us)
    ended = int(np.count_nonzero(late) + np.count_nonzero(given_up))
    counted = RouterState(
        state.num_rows + int(np.count_nonzero(going)),
        state.num_deferred + int(np.count_nonzero(held)),
        state.num_ended + ended,
    )
    return counted, tuple(effects)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Per row: lane (int16, -1 = no plan) and index into ``versions`` (int16)."""

    lanes: Array
    picks: Array
    versions: tuple[str, ...]


def _choose(frame: InferenceFrame, memory: MemoryView, num_lanes: int) -> _Choice:
    lanes = np.full(num_rows(frame), -1, np.int16)
    picks = np.zeros(num_rows(frame), np.int16)
    versions: dict[str, int] = {}
    starts = segment_starts(frame)
    keys: list[bytes] | None = None
    for number, segment in enumerate(frame.segments):
        effective = plan(memory, segment.model)
        if effective is None:
            continue
        rows = slice(starts[number], starts[number + 1])
        lanes[rows] = home_lane(effective, num_lanes)
        if segment.version:
            picks[rows] = versions.setdefault(segment.version, len(versions))
        elif len(effective.versions) == 1:
            picks[rows] = versions.setdefault(effective.versions[0].version, len(versions))
        else:
            keys = keys or _cohort_keys(frame)
            picks[rows] = [versions.setdefault(version_for(effective, key), len(versions)) for key in keys[rows]]
    return _Choice(lanes, picks, tuple(versions))


def _cohort_keys(frame: InferenceFrame) -> list[bytes]:
    return [key or request_id for key, request_id in zip(routing_keys(frame), request_ids(frame), strict=True)]


def home_lane(effective: Plan, num_lanes: int) -> int:
    """The lane of a model: the plan's, else a hash of its name (CRC-32), so that its batches stay full."""
    if effective.lane >= 0:
        return effective.lane % num_lanes
    return zlib.crc32(effective.model.encode()) % num_lanes


def version_for(effective: Plan, key: bytes) -> str:
    """The version of a sticky key: CRC-32 of model and key, modulo 100, against the summed weights."""
    point = zlib.crc32(key, zlib.crc32(effective.model.encode())) % 100
    for share in effective.versions:
        point -= share.weight_percent
        if point < 0:
            return share.version
    return effective.versions[-1].version


def _sent(frame: InferenceFrame, going: Array, choice: _Choice, sequence: int, now_us: int) -> list[SendFrame | Defer]:
    effects: list[SendFrame | Defer] = []
    for lane in np.unique(choice.lanes[going]).tolist():
        rows = np.flatnonzero(going & (choice.lanes == lane))
        part = take(frame, rows)
        routed = replace(
            part,
            segments=tuple(_with_versions(part, choice.picks[rows], choice.versions)),
            memory_sequence=sequence,
            routed_us=now_us,
        )
        effects.append(SendFrame("inference.routed", int(lane), routed))
    return effects


def _with_versions(part: InferenceFrame, picks: Array, versions: tuple[str, ...]) -> list[Segment]:
    """The segments with their chosen version; one whose rows go to several versions is cut into runs."""
    segments: list[Segment] = []
    starts = segment_starts(part)
    for number, segment in enumerate(part.segments):
        if len(versions) == 1:
            segments.append(_served_by(segment, versions[0]))
            continue
        mine = picks[starts[number] : starts[number + 1]]
        edges = [0, *(np.flatnonzero(np.diff(mine)) + 1).tolist(), len(mine)]
        if len(edges) == 2:
            segments.append(_served_by(segment, versions[int(mine[0])]))
            continue
        for start, stop in itertools.pairwise(edges):
            run = take(part, np.arange(starts[number] + start, starts[number] + stop))
            segments.append(_served_by(run.segments[0], versions[int(mine[start])]))
    return segments


def _served_by(segment: Segment, version: str) -> Segment:
    """The segment, not yet executed, with its version."""
    return Segment(segment.model, version, segment.cohort, segment.num_rows, segment.inputs, blob=segment.blob)


def _ended(frame: InferenceFrame, mask: Array, status: int, code: str, message: str, now_us: int) -> SendFrame:
    rows = np.flatnonzero(mask)
    errors = [RowError(at, code, message, NEVER) for at in range(len(rows))]
    ended = replace(end_rows(take(frame, rows), status, errors), routed_us=now_us)
    return SendFrame("inference.executed", frame.partition, ended)


ROUTER = AgentSpec(
    name="router",
    consumes=("inference.admitted",),
    watches=("memory.events",),
    emits=("inference.routed", "inference.executed"),
    initial=lambda _params: RouterState(),
    decide=decide,
    state_per="partition",
    params=RouterParams(),
)
