"""Router: which version serves each row, and in which lane.

Consumes ``inference.admitted`` and, for rows that are tried again (``agents.retry``), ``inference.retries`` (one state
per source partition, which both share), watches ``memory.events`` (arrives as
``Event.answers``). Emits ``inference.routed`` (partition = lane) and, for rows that end here, ``inference.executed``
(partition = the source partition); what it decided on sampled frames is noted (``agents.routing_decision``).

Rule: routing = f(frame, memory at the sequence noted in the routed frame, the frame's columns). The Router never
guesses: a row whose model has no effective plan waits at most ``hold_us`` or until its deadline, then ends with
``no_plan``, while the others of its frame go on. Nothing is kept beside what ``Defer`` gives back to the interpreter.

Rows of ordered models go to the lanes of their keys (``agents.ordering``).
Rows that their version may not take, or failed on before, go to another (``agents.breaker``) or end here.
Rows of cached models are looked up before ``decide`` (``lookups``); those with an earlier answer end here with it, the
others carry the digest of their input, by which the Validator caches their answer.
A share of the rows of shadowed models is copied for another version (``agents.shadow``), beside the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from agents import hedge, shadow
from agents.breaker import refusal
from agents.freshness import refused as refused_by_silence
from agents.ordering import in_order, passed_on
from agents.retry import cohort_of, first_tries, lane_of, pinned_version, retried
from agents.route import Route, Texts, cuts_of, num_ready, refused_rows, routes_of
from agents.routing_decision import is_sampled, note
from schemas.frame import InferenceFrame, RowError, Segment
from streams.agent import AgentSpec, Effects, Event, Tick
from streams.arrange import Cut, arranged
from streams.cache.keys import NO_DIGEST, CacheScope, input_digests
from streams.cache.lookup import Asked, Lookup, answered
from streams.columns import ERROR, EXPIRED, Array, end_rows, num_rows, take
from streams.frame_effects import Answered, Defer, Followed, MemorySilent, SendFrame
from streams.key_order import ended_before
from streams.memory_view import MemoryView, all_breakers, cache_scope, cached_models
from streams.retry_budget import Tokens
from streams.shadow_view import shadows
from streams.splice import routed, served_by

NEVER: Final = 0


@dataclass(frozen=True, slots=True)
class RouterParams:
    """``num_lanes`` partitions of ``inference.routed``; ``hold_us`` how long a row waits for a plan.

    ``num_slow_lanes``: how many of the lanes, the last ones, are for slow models. ``sample_every``: of how many frames
    one's decision is noted (0: none's).
    """

    num_lanes: int = 2
    hold_us: int = 2_000_000
    num_slow_lanes: int = 0
    sample_every: int = 0


@dataclass(frozen=True, slots=True)
class RouterState:
    """Counts since the take-over, and ``tokens`` for retries per model; the choice of version and lane has no state.

    ``is_silent``: memory is, so nothing is routed (``agents.freshness``).
    """

    num_rows: int = 0
    num_deferred: int = 0
    num_ended: int = 0
    num_cached: int = 0
    tokens: Tokens = field(default_factory=dict)
    hedging: hedge.Hedging | None = None
    is_silent: bool = False
    copies: shadow.Copies | None = None


def decide(state: RouterState, event: Event, params: RouterParams) -> tuple[RouterState, Effects]:
    """Route one frame, or one that was deferred."""
    match event.record:
        case InferenceFrame() as frame:
            left, ended = ended_before(frame)
            lanes = params.num_lanes, params.num_slow_lanes
            before = [] if ended is None else passed_on(ended, event.answers, event.now_us, *lanes)
            if left is None:
                return state, tuple(before)
            if state.is_silent:
                refused = in_order(left, refused_by_silence(left, event.answers, event.now_us), event.answers, *lanes)
                return replace(state, num_ended=state.num_ended + num_rows(left)), (*before, *refused)
            state, effects = (_route_again if left.attempt else _route)(state, left, event, params)
            effects = in_order(left, effects, event.answers, *lanes)
            if is_sampled(left, event, params.sample_every) and (noted := note(left, event, effects)) is not None:
                effects = (*effects, noted)
            if shadows(event.answers) and not left.attempt:
                copies, more = shadow.copied(state.copies, effects, event.answers, event.now_us)
                state, effects = replace(state, copies=copies), (*effects, *more)
            return state, (*before, *effects)
        case Tick():
            return _hedged(state, event, params)
        case Answered() | Followed():
            hedging = hedge.heard(state.hedging, event.record, event.now_us)
            return replace(state, hedging=hedging, copies=shadow.heard(state.copies, event.record)), ()
        case MemorySilent(on=is_silent):
            return replace(state, is_silent=is_silent), ()
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
    routes = [] if left is None else routes_of(left, memory, params.num_lanes, params.num_slow_lanes)
    if left is not None and None in routes:
        waiting, num_held = _planless(left, routes, now_us, params.hold_us)
        effects += waiting
        planless = [route is None for route in routes]
        num_ended += num_rows(left)
        left = _without(left, np.repeat(planless, [segment.num_rows for segment in left.segments]))
        num_ended -= num_held + (0 if left is None else num_rows(left))
    if left is not None and (left.attempt or all_breakers(memory)):
        refused = refused_rows(left, [route for route in routes if route is not None], now_us)
        if refused:
            effects.append(refusal(left, refused, memory.sequence, now_us))
            num_ended += len(refused)
            left = _without(left, np.isin(np.arange(num_rows(left)), list(refused)))
            routes = [] if left is None else routes_of(left, memory, params.num_lanes, params.num_slow_lanes)
    num_sent = 0
    if left is not None:
        known = [route for route in routes if route is not None]
        effects += _sent(
            left, known if frame.attempt == 0 else _elsewhere(left, known, params, memory), memory.sequence, now_us
        )
        num_sent = num_rows(left)
    hedging = state.hedging
    if num_sent and memory.sequence >= frame.memory_sequence and hedge.hedged_models(memory):
        hedging = hedge.watched(hedging, [each for each in effects if isinstance(each, SendFrame)], memory, now_us)
    counted = RouterState(
        state.num_rows + num_sent,
        state.num_deferred + num_held,
        state.num_ended + num_ended,
        state.num_cached + num_cached,
        tokens,
        hedging,
        state.is_silent,
        state.copies,
    )
    return counted, tuple(effects)


def _elsewhere(frame: InferenceFrame, routes: Sequence[Route], params: RouterParams, memory: MemoryView) -> list[Route]:
    """The routes of rows that are tried again."""
    lanes = params.num_lanes, params.num_slow_lanes, num_ready(memory)
    return [replace(route, lane=lane_of(frame, route.lane, route.effective.lane, *lanes)) for route in routes]


def _hedged(state: RouterState, event: Event, params: RouterParams) -> tuple[RouterState, Effects]:
    if state.hedging is None:
        return state, ()
    lanes, may_send = (params.num_lanes, params.num_slow_lanes), not state.is_silent
    hedging, copies = hedge.hedged(state.hedging, event.answers, *lanes, event.now_us, may_send=may_send)
    return replace(state, hedging=hedging), copies


def hedging_due(state: RouterState) -> int:
    """When rows under way are looked at next, in microseconds since the epoch."""
    return hedge.NEVER if state.hedging is None else state.hedging.due_us


def _without(frame: InferenceFrame, mask: Array) -> InferenceFrame | None:
    """The frame without the masked rows; None when none is left."""
    rows = np.flatnonzero(~mask)
    return take(frame, rows) if len(rows) else None


def _planless(
    frame: InferenceFrame, routes: Sequence[Route | None], now_us: int, hold_us: int
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


def _sent(frame: InferenceFrame, routes: Sequence[Route], sequence: int, now_us: int) -> list[SendFrame | Defer]:
    """One frame per lane, each segment with its version; one whose rows go to several versions is split by them."""
    lanes: dict[int, list[tuple[Cut, str]]] = {}
    texts: Texts = []
    first = 0
    for number, (segment, route) in enumerate(zip(frame.segments, routes, strict=True)):
        cuts = lanes.setdefault(route.lane, [])
        version = (segment.version and pinned_version(frame, segment)) or route.version
        if version and not (route.breakers or frame.attempt):
            cuts.append((Cut(number), version))
        else:
            cuts += cuts_of(frame, number, first, route, texts)
        first += segment.num_rows
    effects: list[SendFrame | Defer] = []
    for lane, cuts in sorted(lanes.items()):
        part = arranged(frame, [cut for cut, _ in cuts])
        segments = [
            served_by(segment, version, cohort_of(frame, segment) if segment.version else segment.cohort)
            for segment, (_, version) in zip(part.segments, cuts, strict=True)
        ]
        effects.append(SendFrame("inference.routed", lane, routed(part, tuple(segments), sequence, now_us)))
    return effects


def lookups(frame: InferenceFrame, memory: MemoryView, params: RouterParams) -> Lookup | None:
    """What is asked of the cache: the rows of cached models by the version that would serve them; None for none.

    Nothing where memory is behind the frame: any model may be ordered by now, and those get no cached answers.
    """
    cached = cached_models(memory) if memory.sequence >= frame.memory_sequence else frozenset()
    left = ended_before(frame)[0] if cached else None
    if left is None:
        return None
    frame = left
    if frame.attempt or not any(segment.model in cached for segment in frame.segments):
        return None
    asked: list[Asked] = []
    digests = [NO_DIGEST] * num_rows(frame)
    row_items = np.frombuffer(frame.row_items, "<u2").tolist()
    texts: Texts = []
    first = 0
    routes = routes_of(frame, memory, params.num_lanes, params.num_slow_lanes)
    for number, (segment, route) in enumerate(zip(frame.segments, routes, strict=True)):
        rows = slice(first, first + segment.num_rows)
        first = rows.stop
        if route is None or segment.model not in cached:
            continue
        cuts = cuts_of(frame, number, rows.start, route, texts)
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


def _ended(frame: InferenceFrame, mask: Array, status: int, code: str, message: str, now_us: int) -> SendFrame:
    rows = np.flatnonzero(mask)
    errors = [RowError(at, code, message, NEVER) for at in range(len(rows))]
    ended = replace(end_rows(take(frame, rows), status, errors), routed_us=now_us)
    return SendFrame("inference.executed", frame.partition, ended)


ROUTER = AgentSpec(
    name="router",
    consumes=("inference.admitted", "inference.retries"),
    watches=("memory.events",),
    emits=("inference.routed", "inference.executed", "inference.decisions"),
    initial=lambda _params: RouterState(),
    decide=decide,
    lookups=lookups,
    state_per="partition",
    params=RouterParams(),
    due=hedging_due,
)
