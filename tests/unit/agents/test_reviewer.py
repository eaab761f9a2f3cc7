"""The Reviewer: open until decided or due, votes that count once, and what is due is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.approval import vote_id
from agents.orchestrator import decide as orchestrate
from agents.reviewer import ANSWER_US, GRACE_US, MAX_OTHER, MOST_OTHERS, REMEMBERED, State, decide, open_requests
from agents.verdict import State as Memory
from schemas.environment import Environment
from schemas.memory import MemoryCommand
from schemas.review import Escalation, ReviewDecision, ReviewRequest, ReviewVote
from streams.agent import Effects, Publish
from streams.canonical import from_json, to_json
from tests.support.control import SECOND, at, chained, model_version, tick
from tests.support.signers import (
    PRODUCTION,
    activation,
    decision_of,
    environment_command,
    key_of,
    registration,
    revocation,
    signed,
    two_people,
    vote,
)
from tests.unit.agents.test_orchestrator import register

REQUEST = ReviewRequest("q1", "planner", "plan/digits", "ab" * 32, "evidence", 100, 10)
REASON = "Nobody decided before the deadline; what is not approved is refused."
REVOKED = revocation("bob", "bob")


class Two:
    """The Orchestrator and the Reviewer, which reads what the other writes."""

    def __init__(self, environment: Environment = PRODUCTION) -> None:
        self.memory, self.reviewer = Memory(), State()
        self.hear(register(model_version()), register(model_version(version="v2.0.0"), "m2"), *two_people())
        self.hear(environment_command(environment))

    def hear(self, *records: Any, now_us: int = SECOND) -> Effects:
        """The Orchestrator takes records; what the Reviewer says of the events is returned."""
        said: Effects = ()
        for record in records:
            self.memory, effects = orchestrate(self.memory, at(record, now_us), None)
            for stored in chained(effects, self.reviewer.head):
                event = at(stored.event, now_us, answers=stored.value_hash)
                self.reviewer, made = decide(self.reviewer, event, None)
                said += made
        return said

    def tell(self, record: Any, now_us: int = SECOND) -> Effects:
        """The Reviewer takes a record of its topics."""
        self.reviewer, effects = decide(self.reviewer, at(record, now_us), None)
        return effects

    def tick(self, now_us: int) -> Effects:
        """The Reviewer's clock."""
        self.reviewer, effects = decide(self.reviewer, tick(now_us), None)
        return effects

    def ask(self, command: MemoryCommand | None = None) -> ReviewRequest:
        """An activation that waits."""
        self.hear(command or signed(activation(), "ann"))
        return open_requests(self.reviewer)[-1]


def refusal(effects: Effects) -> str:
    """The code of the one refusal that is told."""
    (effect,) = effects
    assert isinstance(effect.record, Escalation)
    return effect.record.reason.partition(":")[0]


def decisions(effects: Effects) -> list[ReviewDecision]:
    return [each.record for each in effects if isinstance(each.record, ReviewDecision)]


def test_a_request_waits_until_its_deadline() -> None:
    state, effects = decide(State(), at(REQUEST), None)
    assert (state, effects) == (State({"q1": REQUEST}), ())
    assert decide(state, at(REQUEST), None) == (state, ())
    assert decide(state, tick(99), None) == (state, ())
    state, effects = decide(state, tick(100), None)
    assert state == State({}, ("q1",))
    assert effects == (
        Publish("control.review-decisions", b"q1", ReviewDecision("q1", "expired", "reviewer", REASON, "ab" * 32, 100)),
        Publish("control.escalations", b"q1", Escalation("q1/expired", "reviewer", "plan/digits", REASON, 100)),
    )
    assert decide(state, at(REQUEST), None) == (state, ())


def test_requests_of_others_are_bounded() -> None:
    state = State()
    for number in range(MOST_OTHERS):
        state, effects = decide(state, at(replace(REQUEST, review_id=f"q{number}")), None)
        assert effects == ()
    full, effects = decide(state, at(replace(REQUEST, review_id="one-more")), None)
    assert (full, refusal(effects)) == (state, "too_many_reviews")
    for large in (replace(REQUEST, evidence="x" * MAX_OTHER), replace(REQUEST, review_id="q" * 65)):
        empty, effects = decide(State(), at(large), None)
        assert (empty, refusal(effects)) == (State(), "too_large")


def test_nearest_deadline_first() -> None:
    state = State(
        {"a": replace(REQUEST, review_id="a", deadline_us=9), "b": replace(REQUEST, review_id="b", deadline_us=3)}
    )
    assert [request.review_id for request in open_requests(state)] == ["b", "a"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 50)) | st.integers(0, 60), max_size=40))
def test_every_request_is_decided_at_most_once_and_never_early(inputs: list[object]) -> None:
    state = State()
    decided: list[str] = []
    now = 0
    for given_input in inputs:
        if isinstance(given_input, int):
            now = max(now, given_input)
            event = tick(now)
        else:
            name, deadline_us = cast("tuple[str, int]", given_input)
            event = at(replace(REQUEST, review_id=name, deadline_us=deadline_us))
        before = state
        state, effects = decide(state, event, None)
        for effect in effects[::2]:
            assert effect.record.decision == "expired"
            assert before.waiting[effect.record.review_id].deadline_us <= now
            decided.append(effect.record.review_id)
    assert len(decided) == len(set(decided))
    assert len(state.closed) <= REMEMBERED


def test_a_good_vote_is_a_decision_and_memory_closes_the_review() -> None:
    two = Two()
    request = two.ask()
    given_vote = vote(request.review_id, request.subject_digest)
    effects = two.tell(given_vote, 20)
    assert decisions(effects) == [decision_of(given_vote, 20)]
    assert effects[0].topic == "control.review-decisions"
    two.hear(decisions(effects)[0])
    assert two.reviewer.waiting == {}
    assert (two.reviewer.closed, two.reviewer.decided) == ((request.review_id,), {})
    assert refusal(two.tell(given_vote)) == "approval_used"


@pytest.mark.parametrize(
    ("who", "change", "code"),
    [
        ("ann", {}, "self_approval"),
        ("eve", {}, "unknown_signer"),
        ("bob", {"signature": "00" * 64}, "bad_signature"),
        ("bob", {"reason": "another"}, "bad_signature"),
        ("bob", {"reason": ""}, "invalid_reason"),
        ("bob", {"reason": "x" * 501}, "invalid_reason"),
        ("bob", {"decision": "maybe"}, "unknown_decision"),
        ("bob", {"review_id": "r999"}, "unknown_review"),
        ("bob", {"review_id": "q1"}, "unknown_review"),
    ],
)
def test_what_does_not_count_is_told(who: str, change: dict[str, Any], code: str) -> None:
    two = Two()
    request = two.ask()
    two.tell(REQUEST)
    given_vote = replace(vote(request.review_id, request.subject_digest, who), **change)
    effects = two.tell(given_vote)
    assert refusal(effects) == code
    assert effects[0].record.escalation_id == vote_id(given_vote)
    assert decisions(two.tell(vote(request.review_id, request.subject_digest))) != []


def test_a_vote_on_something_else_a_late_one_and_a_revoked_one() -> None:
    two = Two()
    request = two.ask()
    assert refusal(two.tell(vote(request.review_id, "00" * 32))) == "digest_mismatch"
    good = vote(request.review_id, request.subject_digest)
    assert refusal(two.tell(good, request.deadline_us)) == "approval_expired"
    two.hear(REVOKED)
    assert refusal(two.tell(good)) == "signer_revoked"


def test_a_second_vote_waits_for_memorys_answer_to_the_first() -> None:
    two = Two()
    request = two.ask()
    good = vote(request.review_id, request.subject_digest)
    assert len(decisions(two.tell(good, SECOND))) == 1
    assert refusal(two.tell(good, SECOND)) == "approval_used"
    assert two.tick(SECOND + ANSWER_US - 1) == ()
    two.tick(SECOND + ANSWER_US)
    assert len(decisions(two.tell(good, SECOND + ANSWER_US))) == 1


def test_what_the_topic_says_of_the_orchestrators_reviews_counts_for_nothing() -> None:
    two = Two()
    forged = replace(REQUEST, review_id=f"r{two.memory.sequence + 1}", policy="development")
    assert two.tell(forged) == ()
    request = two.ask()
    assert (request.review_id, request.author, request.policy) == (forged.review_id, "ann", "people")


def test_a_forged_memory_event_counts_for_nothing() -> None:
    two = Two()
    request = two.ask()
    _, effects = orchestrate(Memory(sequence=two.memory.sequence), at(registration("eve")), None)
    (stored,) = chained(effects)
    before = two.reviewer
    assert two.tell(stored.event) == ()
    assert two.reviewer == before
    assert refusal(two.tell(vote(request.review_id, request.subject_digest, "eve"))) == "unknown_signer"


def test_the_deadline_of_a_review_of_memory() -> None:
    two = Two()
    request = two.ask()
    assert two.tick(request.deadline_us + GRACE_US - 1) == ()
    now_us = request.deadline_us + GRACE_US
    effects = two.tick(now_us)
    assert [each.decision for each in decisions(effects)] == ["expired"]
    assert two.tick(now_us + SECOND) == ()
    assert len(decisions(two.tick(now_us + ANSWER_US))) == 1  # the Orchestrator's clock was behind, say
    two.hear(decisions(effects)[0], now_us=now_us)
    assert two.reviewer.waiting == {}
    assert two.tick(now_us + 2 * ANSWER_US) == ()


def test_the_state_comes_back_from_a_snapshot() -> None:
    two = Two()
    request = two.ask()
    two.hear(REVOKED)
    two.tell(vote(request.review_id, request.subject_digest, "ann", "rejected"))
    two.tell(REQUEST)
    assert two.reviewer.decided != {}
    assert from_json(State, to_json(two.reviewer)) == two.reviewer


def test_a_sandbox_approves_by_itself_and_says_what_it_skipped() -> None:
    two = Two(Environment())
    (decision,) = decisions(two.hear(activation()))
    assert (decision.decision, decision.decided_by, decision.signature) == ("approved", "development-policy", "")
    assert "has no approval of a second person" in decision.reason
    two.hear(decision)
    assert '"v2.0.0"' in two.memory.values["active/digits"].body
    assert two.reviewer.waiting == {}


Step = tuple[str, str, str, int]
STEPS = st.tuples(
    st.sampled_from(("vote", "decide", "replay", "tick")),
    st.sampled_from(("ann", "bob", "eve")),
    st.sampled_from(("approved", "rejected")),
    st.integers(0, 40),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_in_any_order_of_votes_decisions_and_ticks_one_decision_holds(steps: list[Step]) -> None:
    two, now_us = Two(), SECOND
    request = two.ask()
    under_way: list[ReviewDecision] = []
    sent: list[ReviewDecision] = []
    for what, name, said, seconds in steps:
        now_us += seconds * SECOND
        effects: Effects = ()
        if what == "vote":
            given_vote: ReviewVote = vote(request.review_id, request.subject_digest, name, said, key_of(name))
            effects = two.tell(given_vote, now_us)
        elif what == "tick":
            effects = two.tick(now_us)
        elif what == "decide" and under_way:
            two.hear(under_way.pop(0), now_us=now_us)
        elif what == "replay" and sent:
            two.hear(sent[0], now_us=now_us)
        for decision in decisions(effects):
            assert decision.decided_by in ("bob", "reviewer") or decision.decision == "rejected"
            under_way.append(decision)
            sent.append(decision)
    noted = two.memory.values.get(f"decision/{request.review_id}")
    is_open = f"review/{request.review_id}" in two.memory.values
    assert is_open == (noted is None) == (request.review_id in two.reviewer.waiting)
    approved = noted is not None and '"decision":"approved"' in noted.body
    assert ('"v2.0.0"' in two.memory.values["active/digits"].body) == approved
