"""Router: which version serves each row, and in which lane.

Consumes ``inference.admitted`` and, for rows that are tried again (``agents.retry``), ``inference.retries`` (one state
per source partition, which both share), watches ``memory.events`` (arrives as
``Event.answers``). Emits ``inference.routed`` (partition = lane) and, for rows that end here, ``inference.executed``
(partition = the source partition).

Rule: routing = f(frame, memory at the sequence noted in the routed frame, the frame's columns). The Router never
guesses: a row whose model has no effective plan waits at most ``hold_us`` or until its deadline, then ends with
``no_plan``, while the others of its frame go on. Nothing is kept beside what ``Defer`` gives back to the interpreter.

Rows of cached models are looked up before ``decide`` (``lookups``); those with an earlier answer end here with it, the
others carry the digest of their input, by which the Validator caches their answer.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from agents import hedge
from agents.retry import cohort_of, first_tries, pinned_version, retried
from schemas.frame import InferenceFrame, RowError, Segment
from schemas.plan import Plan
from streams.agent import AgentSpec, Effects, Event, Tick
from streams.arrange import Cut, arranged
from streams.cache.keys import NO_DIGEST, CacheScope, input_digests
from streams.cache.lookup import Asked, Lookup, answered
from streams.columns import ERROR, EXPIRED, Array, end_rows, num_rows, request_ids, routing_keys, take
from streams.frame_effects import Answered, Defer, Followed, SendFrame
from streams.lane_class import lane_for
from streams.memory_view import MemoryView, cache_scope, cached_models, derived, plan
from streams.retry_budget import Tokens
from streams.splice import routed, served_by

NEVER: Final = 0


@dataclass(frozen=True, slots=True)
class RouterParams:
    """``num_lanes`` partitions of ``inference.routed``; ``hold_us`` how long a row waits for a plan.

    ``num_slow_lanes``: how many of the lanes, the last ones, are for slow models.
    """

    num_lanes: int = 2
    hold_us: int = 2_000_000
    num_slow_lanes: int = 0


@dataclass(frozen=True, slots=True)
class RouterState:
    """Counts since the take-over, and ``tokens`` for retries per model; the choice of version and lane has no state."""

    num_rows: int = 0
    num_deferred: int = 0
    num_ended: int = 0
    num_cached: int = 0
    tokens: Tokens = field(default_factory=dict)
    hedging: hedge.Hedging | None = None


def decide(state: RouterState, event: Event, params: RouterParams) -> tuple[RouterState, Effects]:
    """Route one frame, or one that was deferred."""
    match event.record:
        case InferenceFrame() as frame:
            return _route_again(state, frame, event, params) if frame.attempt else _route(state, frame, event, params)
        case Tick():
            return _hedged(state, event, params)
        case Answered() | Followed():
            return replace(state, hedging=hedge.heard(state.hedging, event.record, event.now_us)), ()
    raise TypeError(f"the Router takes frames, not {type(event.record).__name__}")


def _route_again(
    state: RouterState, frame: InferenceFrame, event: Event, params: RouterParams
) -> tuple[RouterState, Effects]:
    back = retried(frame, state.tokens, event.now_us, arrives=event.coordinate.offset >= 0)
    deferred, ended = state.num_deferred + back.num_waiting, state.num_ended + back.num_ended
    state = replace(state, tokens=back.tokens, num_deferred=deferred, num_ended=ended)
    if back.left is None:
        return state, back.effects
    state, effects = _route(state, back.left, event, params)
    return state, (*back.effects, *effects)


def _route(
    state: RouterState, frame: InferenceFrame, event: Event, params: RouterParams
) -> tuple[RouterState, Effects]:
    now_us, memory = event.now_us, event.answers
    effects: list[SendFrame | Defer] = []
    left: InferenceFrame | None = frame
    late = np.frombuffer(frame.deadlines_us, "<i8") <= now_us
    num_held, num_ended, num_cached = 0, 0, 0
    tokens = state.tokens
    if tokens and frame.attempt == 0 and event.coordinate.offset >= 0:
        tokens = first_tries(frame, tokens)
    if event.looked_up is not None:
        hits, frames = answered(frame, event.looked_up, memory, late, now_us)
        effects += [SendFrame("inference.executed", frame.partition, each) for each in frames]
        num_cached = int(np.count_nonzero(hits))
        left = _without(replace(frame, input_digests=event.looked_up.lookup.digests), hits)
        late = late[~hits]
    if left is not None and late.any():
        num_ended = int(np.count_nonzero(late))
        effects.append(
            _ended(left, late, EXPIRED, "deadline_exceeded", "the deadline passed before it was routed", now_us)
        )
        left = _without(left, late)
    routes = [] if left is None else _routes(left, memory, params)
    if left is not None and None in routes:
        waiting, num_held = _planless(left, routes, now_us, params.hold_us)
        effects += waiting
        planless = [route is None for route in routes]
        num_ended += num_rows(left)
        left = _without(left, np.repeat(planless, [segment.num_rows for segment in left.segments]))
        num_ended -= num_held + (0 if left is None else num_rows(left))
    num_sent = 0
    if left is not None:
        effects += _sent(left, [route for route in routes if route is not None], memory.sequence, now_us)
        num_sent = num_rows(left)
    hedging = state.hedging
    if num_sent and hedge.hedged_models(memory):
        hedging = hedge.watched(hedging, [each for each in effects if isinstance(each, SendFrame)], memory, now_us)
    counted = RouterState(
        state.num_rows + num_sent,
        state.num_deferred + num_held,
        state.num_ended + num_ended,
        state.num_cached + num_cached,
        tokens,
        hedging,
    )
    return counted, tuple(effects)


def _hedged(state: RouterState, event: Event, params: RouterParams) -> tuple[RouterState, Effects]:
    if state.hedging is None:
        return state, ()
    hedging, copies = hedge.hedged(state.hedging, event.answers, params.num_lanes, params.num_slow_lanes, event.now_us)
    return replace(state, hedging=hedging), copies


def hedging_due(state: RouterState) -> int:
    """When rows under way are looked at next, in microseconds since the epoch."""
    return hedge.NEVER if state.hedging is None else state.hedging.due_us


def _without(frame: InferenceFrame, mask: Array) -> InferenceFrame | None:
    """The frame without the masked rows; None when none is left."""
    rows = np.flatnonzero(~mask)
    return take(frame, rows) if len(rows) else None


def _planless(
    frame: InferenceFrame, routes: Sequence[_Route | None], now_us: int, hold_us: int
) -> tuple[list[SendFrame | Defer], int]:
    """What becomes of the rows without a plan, none of them late: some have waited long enough, the others wait."""
    planless = np.repeat([route is None for route in routes], [segment.num_rows for segment in frame.segments])
    wait_until = np.minimum(np.frombuffer(frame.deadlines_us, "<i8"), frame.created_us + hold_us)
    given_up = planless & (wait_until <= now_us)
    held = np.flatnonzero(planless & ~given_up)
    effects: list[SendFrame | Defer] = []
    if given_up.any():
        effects.append(
            _ended(frame, given_up, ERROR, "no_plan", "no plan became effective for this model in time", now_us)
        )
    if len(held):
        effects.append(Defer(take(frame, held), int(wait_until[held].min())))
    return effects, len(held)


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the rows of a model go. ``version`` is that of all of them, or empty where weights decide."""

    lane: int
    version: str
    effective: Plan


def _routes(frame: InferenceFrame, memory: MemoryView, params: RouterParams) -> list[_Route | None]:
    """Per segment; what memory says of a model is looked up once."""
    known: dict[str, _Route] = derived(memory, ("routes", params.num_lanes, params.num_slow_lanes), dict)
    routes: list[_Route | None] = []
    for segment in frame.segments:
        route = known.get(segment.model)
        if route is None:
            effective = plan(memory, segment.model)
            if effective is not None:
                version = effective.versions[0].version if len(effective.versions) == 1 else ""
                lane = home_lane(effective, params.num_lanes, params.num_slow_lanes)
                route = known[segment.model] = _Route(lane, version, effective)
        routes.append(route)
    return routes


def home_lane(effective: Plan, num_lanes: int, num_slow: int = 0) -> int:
    """The lane of a model: the plan's, else a hash of its name among its class's, so that its batches stay full."""
    return lane_for(effective.model, effective.lane, num_lanes, num_slow)


def version_for(effective: Plan, key: bytes) -> str:
    """The version of a sticky key: CRC-32 of model and key, modulo 100, against the summed weights."""
    point = zlib.crc32(key, zlib.crc32(effective.model.encode())) % 100
    for share in effective.versions:
        point -= share.weight_percent
        if point < 0:
            return share.version
    return effective.versions[-1].version


def _sent(frame: InferenceFrame, routes: Sequence[_Route], sequence: int, now_us: int) -> list[SendFrame | Defer]:
    """One frame per lane, each segment with its version; one whose rows go to several versions is split by them."""
    lanes: dict[int, list[tuple[Cut, str]]] = {}
    keys: list[bytes] = []
    first = 0
    for number, (segment, route) in enumerate(zip(frame.segments, routes, strict=True)):
        version = pinned_version(frame, segment) or route.version
        cuts = lanes.setdefault(route.lane, [])
        if version:
            cuts.append((Cut(number), version))
        else:
            keys = keys or _cohort_keys(frame)
            cuts += _by_version(number, route.effective, keys[first : first + segment.num_rows])
        first += segment.num_rows
    effects: list[SendFrame | Defer] = []
    for lane, cuts in sorted(lanes.items()):
        part = arranged(frame, [cut for cut, _ in cuts])
        segments = [
            served_by(segment, version, cohort_of(frame, segment))
            for segment, (_, version) in zip(part.segments, cuts, strict=True)
        ]
        effects.append(SendFrame("inference.routed", lane, routed(part, tuple(segments), sequence, now_us)))
    return effects


def lookups(frame: InferenceFrame, memory: MemoryView, params: RouterParams) -> Lookup | None:
    """What is asked of the cache: the rows of cached models by the version that would serve them; None for none."""
    cached = cached_models(memory)
    if not cached or frame.attempt or not any(segment.model in cached for segment in frame.segments):
        return None
    asked: list[Asked] = []
    digests = [NO_DIGEST] * num_rows(frame)
    row_items = np.frombuffer(frame.row_items, "<u2").tolist()
    keys: list[bytes] = []
    first = 0
    for number, (segment, route) in enumerate(zip(frame.segments, _routes(frame, memory, params), strict=True)):
        rows = slice(first, first + segment.num_rows)
        first = rows.stop
        if route is None or segment.model not in cached:
            continue
        version = segment.version or route.version
        if version:
            cuts = [(Cut(number), version)]
        else:
            keys = keys or _cohort_keys(frame)
            cuts = _by_version(number, route.effective, keys[rows])
        scopes = [(cut, version, cache_scope(memory, segment.model, version)) for cut, version in cuts]
        if all(scope is None for _, _, scope in scopes):
            continue
        mine = input_digests(segment, row_items[rows])
        for cut, version, scope in scopes:
            if scope is not None:
                asked.append(_ask(cut, segment, version, scope, mine))
                for row in asked[-1].rows:
                    digests[rows.start + row] = mine[row]
    return Lookup(tuple(asked), b"".join(digests)) if asked else None


def _ask(cut: Cut, segment: Segment, version: str, scope: CacheScope, digests: Sequence[bytes]) -> Asked:
    rows = tuple(range(segment.num_rows)) if cut.rows is None else cut.rows
    fields = tuple([scope.scope + digests[row] for row in rows])
    return Asked(cut.segment, segment.model, version, rows, fields, scope.ttl_us)


def _cohort_keys(frame: InferenceFrame) -> list[bytes]:
    return [key or request_id for key, request_id in zip(routing_keys(frame), request_ids(frame), strict=True)]


def _by_version(number: int, effective: Plan, keys: Sequence[bytes]) -> list[tuple[Cut, str]]:
    """A segment's rows by their versions, each version's in the order that they stood in."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(version_for(effective, key), []).append(row)
    if len(rows) == 1:
        return [(Cut(number), version) for version in rows]
    return [(Cut(number, tuple(mine)), version) for version, mine in rows.items()]


def _ended(frame: InferenceFrame, mask: Array, status: int, code: str, message: str, now_us: int) -> SendFrame:
    rows = np.flatnonzero(mask)
    errors = [RowError(at, code, message, NEVER) for at in range(len(rows))]
    ended = replace(end_rows(take(frame, rows), status, errors), routed_us=now_us)
    return SendFrame("inference.executed", frame.partition, ended)


ROUTER = AgentSpec(
    name="router",
    consumes=("inference.admitted", "inference.retries"),
    watches=("memory.events",),
    emits=("inference.routed", "inference.executed"),
    initial=lambda _params: RouterState(),
    decide=decide,
    lookups=lookups,
    state_per="partition",
    params=RouterParams(),
    due=hedging_due,
)
