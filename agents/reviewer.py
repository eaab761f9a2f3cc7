"""Reviewer: keeps the list of what waits for a person, and fails closed.

Consumes ``control.review-requests``; emits ``control.review-decisions`` (key = review id) and ``control.escalations``.
State: the open requests and the ids of recent ones.

Rule: a request is open until its deadline; then the decision is ``expired``, which nobody may take for an approval, and
people are told by an escalation. A request that arrives again, or after its end, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from schemas.review import Escalation, ReviewDecision, ReviewRequest
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick

REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class State:
    """``waiting`` by review id; ``closed``: ids of decided requests, oldest first."""

    waiting: Mapping[str, ReviewRequest] = field(default_factory=dict)
    closed: tuple[str, ...] = ()


def decide(state: State, event: Event, params: Any) -> tuple[State, Effects]:
    """Take a request in, or expire what is due."""
    del params
    match event.record:
        case ReviewRequest() as request:
            return take(state, request), NO_EFFECTS
        case Tick():
            return expire(state, event.now_us)
    return state, NO_EFFECTS


def take(state: State, request: ReviewRequest) -> State:
    """Add a request to the list unless it is known."""
    if request.review_id in state.waiting or request.review_id in state.closed:
        return state
    return replace(state, waiting={**state.waiting, request.review_id: request})


def close(state: State, review_id: str) -> State:
    """Take a request off the list; it never comes back."""
    waiting = {key: request for key, request in state.waiting.items() if key != review_id}
    return State(waiting, (*state.closed, review_id)[-REMEMBERED:])


def open_requests(state: State) -> tuple[ReviewRequest, ...]:
    """What waits, the nearest deadline first; also for ``isos reviews list``."""
    return tuple(sorted(state.waiting.values(), key=lambda request: (request.deadline_us, request.review_id)))


def expire(state: State, now_us: int) -> tuple[State, Effects]:
    """Decide ``expired`` for every request whose deadline has come."""
    effects: list[Publish] = []
    for request in open_requests(state):
        if request.deadline_us > now_us:
            break
        state = close(state, request.review_id)
        effects.extend(_expired(request, now_us))
    return state, tuple(effects)


def _expired(request: ReviewRequest, now_us: int) -> tuple[Publish, Publish]:
    reason = "Nobody decided before the deadline; what is not approved is refused."
    decision = ReviewDecision(request.review_id, "expired", "reviewer", reason, request.subject_digest, now_us)
    escalation = Escalation(f"{request.review_id}/expired", "reviewer", request.subject, reason, now_us)
    key = request.review_id.encode()
    return Publish("control.review-decisions", key, decision), Publish("control.escalations", key, escalation)


REVIEWER: Final = AgentSpec(
    name="reviewer",
    consumes=("control.review-requests",),
    emits=("control.review-decisions", "control.escalations"),
    tick_ms=1_000,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
)
