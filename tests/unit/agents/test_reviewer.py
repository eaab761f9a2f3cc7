"""The Reviewer: open until decided or due, and what is due is refused."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agents.reviewer import REMEMBERED, State, decide, open_requests
from schemas.review import Escalation, ReviewDecision, ReviewRequest
from streams.agent import Publish
from tests.support.control import at, tick

REQUEST = ReviewRequest("q1", "planner", "plan/digits", "ab" * 32, "evidence", 100, 10)
REASON = "Nobody decided before the deadline; what is not approved is refused."


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


def test_nearest_deadline_first() -> None:
    state = State(
        {"a": replace(REQUEST, review_id="a", deadline_us=9), "b": replace(REQUEST, review_id="b", deadline_us=3)}
    )
    assert [request.review_id for request in open_requests(state)] == ["b", "a"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 50)) | st.integers(0, 60), max_size=40))
def test_every_request_is_decided_at_most_once_and_never_early(inputs: list[object]) -> None:
    state, decided = State(), []
    now = 0
    for given_input in inputs:
        if isinstance(given_input, int):
            now = max(now, given_input)
            event = tick(now)
        else:
            name, deadline = given_input  # type: ignore[misc]
            event = at(replace(REQUEST, review_id=name, deadline_us=deadline))
        before = state
        state, effects = decide(state, event, None)
        for effect in effects[::2]:
            assert effect.record.decision == "expired"
            assert before.waiting[effect.record.review_id].deadline_us <= now
            decided.append(effect.record.review_id)
    assert len(decided) == len(set(decided))
    assert len(state.closed) <= REMEMBERED
