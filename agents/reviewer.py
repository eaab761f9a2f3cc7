"""Reviewer: keeps the list of what waits for a person, checks their votes, and fails closed.

Watches ``memory.events`` (open reviews, signers); consumes ``control.review-requests`` and ``control.review-votes``;
emits ``control.review-decisions`` (key = review id) and ``control.escalations``. State: the open requests, the ids of
recent ones, the signers, and for which reviews of memory a decision is under way.

Rules: the Orchestrator's reviews (``r<sequence>``) are those that stand in memory, which nobody else can write; what
their topic says of them is for people. Other requests are taken from the topic, and nobody can vote on them. A vote
that counts (``agents.approval.refused_vote``) is a decision with its signature, once; any other is told to people. A
request is open until its deadline; then the decision is ``expired``, which nobody may take for an approval, and people
are told. In a sandbox with the development policy the Reviewer approves at once and says which safeguard it skipped.
The Orchestrator checks all of it again; where it has not answered after ``ANSWER_US``, a review may be decided anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents.approval import DEVELOPMENT, REVIEW_ID, refused_vote, told, vote_id
from agents.approval import REVIEWER as NAME
from agents.authorship import SIGNER_CHANGES
from agents.verdict import Refusal
from schemas.environment import OpenReview, Signer
from schemas.memory import MemoryEvent
from schemas.review import Escalation, ReviewDecision, ReviewRequest, ReviewVote
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import digest, from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead

REMEMBERED: Final = 1_000
ANSWER_US: Final = 10_000_000
MOST_OTHERS: Final = 64
MAX_OTHER: Final = 16_384
"""Characters of somebody else's request as JSON; all of them stand in a snapshot."""
MAX_ID: Final = 64
GRACE_US: Final = 1_000_000
"""How long after its deadline a review is called expired: the Orchestrator's clock must agree."""


@dataclass(frozen=True, slots=True)
class State:
    """``waiting`` by review id; ``closed``: ids of decided requests, oldest first; ``decided``: when, by review id."""

    waiting: Mapping[str, ReviewRequest] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    head: MemoryHead = field(default_factory=MemoryHead)
    signers: Mapping[str, Signer] = field(default_factory=dict)
    decided: Mapping[str, int] = field(default_factory=dict)


def decide(state: State, event: Event, params: Any) -> tuple[State, Effects]:
    """Take a request in, judge a vote, or expire what is due."""
    del params
    match event.record:
        case MemoryEvent() as change:
            if void_reason(state.head, change) is not None:
                return state, NO_EFFECTS
            state = replace(state, head=MemoryHead(change.sequence, event.answers))
            return _learn(state, change, event.now_us)
        case ReviewRequest() as request if not REVIEW_ID.fullmatch(request.review_id):
            return take(state, request, event.now_us)
        case ReviewVote() as vote:
            return _judge(state, vote, event.now_us)
        case Tick():
            return expire(state, event.now_us)
    return state, NO_EFFECTS


def take(state: State, request: ReviewRequest, now_us: int) -> tuple[State, Effects]:
    """Add somebody else's request to the list unless it is known; what there is no room for is told to people."""
    if request.review_id in state.waiting or request.review_id in state.closed:
        return state, NO_EFFECTS
    refusal: Refusal | None = None
    if len(to_json(request)) > MAX_OTHER or len(request.review_id) > MAX_ID:
        refusal = Refusal("too_large", f"A request has up to {MAX_OTHER} characters, and its id {MAX_ID}.")
    elif sum(not REVIEW_ID.fullmatch(each) for each in state.waiting) >= MOST_OTHERS:
        refusal = Refusal("too_many_reviews", f"{MOST_OTHERS} requests of others are open.")
    if refusal is not None:
        identity = f"request-{digest(request).hex()[:16]}"
        return state, (told(identity, NAME, request.review_id, refusal, now_us),)
    return replace(state, waiting={**state.waiting, request.review_id: request}), NO_EFFECTS


def close(state: State, review_id: str) -> State:
    """Take a request off the list; it never comes back."""
    waiting = {key: request for key, request in state.waiting.items() if key != review_id}
    decided = {key: time_us for key, time_us in state.decided.items() if key != review_id}
    return replace(state, waiting=waiting, decided=decided, closed=(*state.closed, review_id)[-REMEMBERED:])


def open_requests(state: State) -> tuple[ReviewRequest, ...]:
    """What waits, the nearest deadline first; also for ``isos reviews list``."""
    return tuple(sorted(state.waiting.values(), key=lambda request: (request.deadline_us, request.review_id)))


def _learn(state: State, change: MemoryEvent, now_us: int) -> tuple[State, Effects]:
    """Mirror what memory says of reviews and signers."""
    kind, _, name = change.key.partition("/")
    try:
        if kind == "signer" and change.body is not None:
            signer = from_json(Signer, change.body, newer=True)
            return replace(state, signers={**state.signers, name: signer}), NO_EFFECTS
        if kind == "review" and change.body is None:
            return close(state, name), NO_EFFECTS
        if kind == "review" and change.body is not None:
            return _opened(state, from_json(OpenReview, change.body, newer=True).request, now_us)
    except PoisonRecordError:
        return state, NO_EFFECTS  # the Orchestrator writes no such body
    return state, NO_EFFECTS


def _opened(state: State, request: ReviewRequest, now_us: int) -> tuple[State, Effects]:
    state = replace(state, waiting={**state.waiting, request.review_id: request})
    if request.policy != "development":
        return state, NO_EFFECTS
    what = "no approval of a second person, nor its author's signature"
    if request.subject.partition(" ")[0] in SIGNER_CHANGES:
        what = "no signature of somebody who is registered"
    reason = f"Skipped in a sandbox: {request.subject} has {what}."
    return _say(state, ReviewDecision(
        request.review_id, "approved", DEVELOPMENT, reason, request.subject_digest, now_us
    ))  # fmt: skip


def _say(state: State, decision: ReviewDecision) -> tuple[State, Effects]:
    """A decision on a review of memory; the review leaves the list when memory says so."""
    decided = {**state.decided, decision.review_id: decision.decided_us}
    key = decision.review_id.encode()
    return replace(state, decided=decided), (Publish("control.review-decisions", key, decision),)


def _judge(state: State, vote: ReviewVote, now_us: int) -> tuple[State, Effects]:
    request = state.waiting.get(vote.review_id)
    refusal: Refusal | None
    if vote.review_id in state.decided or vote.review_id in state.closed:
        refusal = Refusal("approval_used", f"{vote.review_id} was decided before, and a decision holds once.")
    elif request is None or not REVIEW_ID.fullmatch(vote.review_id):
        refusal = Refusal("unknown_review", f"There is no review {vote.review_id[:32]}.")
    else:
        refusal = refused_vote(request, vote, state.signers.get(vote.signer), now_us)
    if refusal is not None:
        return state, (told(vote_id(vote), NAME, vote.review_id, refusal, now_us),)
    return _say(state, ReviewDecision(
        vote.review_id, vote.decision, vote.signer, vote.reason, vote.subject_digest, now_us, vote.signature,
        vote.time_us,
    ))  # fmt: skip


def expire(state: State, now_us: int) -> tuple[State, Effects]:
    """Decide ``expired`` for every request whose deadline has come, and forget decisions that nobody answered."""
    stale = [key for key, time_us in sorted(state.decided.items()) if now_us - time_us >= ANSWER_US]
    if stale:
        state = replace(state, decided={key: us for key, us in state.decided.items() if key not in stale})
    effects: list[Publish] = []
    for request in open_requests(state):
        is_memorys = bool(REVIEW_ID.fullmatch(request.review_id))
        if request.deadline_us > now_us:
            break
        if request.review_id in state.decided or (is_memorys and request.deadline_us + GRACE_US > now_us):
            continue
        if is_memorys:
            state = replace(state, decided={**state.decided, request.review_id: now_us})
        else:
            state = close(state, request.review_id)
        effects.extend(_expired(request, now_us))
    return state, tuple(effects)


def _expired(request: ReviewRequest, now_us: int) -> tuple[Publish, Publish]:
    reason = "Nobody decided before the deadline; what is not approved is refused."
    decision = ReviewDecision(request.review_id, "expired", NAME, reason, request.subject_digest, now_us)
    escalation = Escalation(f"{request.review_id}/expired", NAME, request.subject, reason, now_us)
    key = request.review_id.encode()
    return Publish("control.review-decisions", key, decision), Publish("control.escalations", key, escalation)


REVIEWER: Final = AgentSpec(
    name="reviewer",
    consumes=("control.review-requests", "control.review-votes"),
    watches=("memory.events",),
    emits=("control.review-decisions", "control.escalations"),
    tick_ms=1_000,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
)
