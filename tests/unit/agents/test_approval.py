"""The approval gate: what waits, who may say yes, every refusal by its code, and that one decision holds once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.approval import KEPT_DECISIONS, MOST_OPEN, evidence, gated, vote_id, vote_of
from agents.orchestrator import KEPT_REJECTIONS, decide
from agents.verdict import Change, Refusal, State
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.reference import MAX_BYTES
from schemas.review import Escalation, ReviewDecision, ReviewRequest
from streams.agent import Effects
from streams.canonical import digest, from_json, to_json
from streams.memory_view import ActiveVersion, Rejection
from streams.topics import MAX_RECORD_BYTES
from tests.support.control import SECOND, at, model_version
from tests.support.signers import (
    PRODUCTION,
    activation,
    decision_of,
    environment_command,
    key_of,
    registration,
    revocation,
    signed,
    signer,
    two_people,
    vote,
)
from tests.unit.agents.test_orchestrator import register

DEADLINE_US = SECOND + 60 * SECOND


def run(state: State, *records: Any, now_us: int = SECOND) -> tuple[State, Effects]:
    effects: Effects = ()
    for record in records:
        state, made = decide(state, at(record, now_us), None)
        effects += made
    return state, effects


def events(effects: Effects) -> list[MemoryEvent]:
    return [each.record for each in effects if isinstance(each.record, MemoryEvent)]


def kinds(effects: Effects) -> list[str]:
    return [event.kind for event in events(effects)]


def rejected(effects: Effects) -> Rejection:
    (event,) = [event for event in events(effects) if event.kind == "CommandRejected"]
    return from_json(Rejection, event.body or "")


def told(effects: Effects) -> list[Escalation]:
    return [each.record for each in effects if isinstance(each.record, Escalation)]


def production(*, environment: Environment = PRODUCTION) -> State:
    """Two versions of digits, ann and bob, and the environment; each was free to be set when it was."""
    later = register(model_version(version="v2.0.0"), "m2")
    state, _ = run(State(), register(model_version()), later, *two_people())
    return run(state, environment_command(environment))[0]


def asked(state: State | None = None, command: MemoryCommand | None = None) -> tuple[State, ReviewRequest]:
    """An activation that waits."""
    state, effects = run(state or production(), command or signed(activation(), "ann"))
    (request,) = [each.record for each in effects if isinstance(each.record, ReviewRequest)]
    return state, request


def active(state: State) -> str:
    return from_json(ActiveVersion, state.values["active/digits"].body).version


def test_without_an_environment_nothing_waits() -> None:
    state, _ = run(State(), register(model_version()), register(model_version(version="v2.0.0"), "m2"))
    state, effects = run(state, activation())
    assert (kinds(effects), active(state)) == (["VersionActivated"], "v2.0.0")


def test_a_gated_command_is_parked_with_its_evidence() -> None:
    before = production()
    command = signed(activation(), "ann")
    state, effects = run(before, command)
    assert kinds(effects) == ["ReviewOpened"]
    assert active(state) == "v1.0.0"
    opened = events(effects)[0]
    review = from_json(OpenReview, opened.body or "")
    assert (opened.key, review.command) == (f"review/r{opened.sequence}", command)
    asked_for = review.request
    assert [each.record for each in effects if each.topic == "control.review-requests"] == [asked_for]
    assert asked_for == ReviewRequest(
        f"r{opened.sequence}", "ann", "ActivateVersion active/digits", digest(command).hex(), asked_for.evidence,
        DEADLINE_US, SECOND, "people",
    )  # fmt: skip
    said = json.loads(asked_for.evidence)
    assert said["changes"] == [
        {
            "event": "VersionActivated",
            "key": "active/digits",
            "from": {"model": "digits", "version": "v1.0.0"},
            "to": {"model": "digits", "version": "v2.0.0"},
        }
    ]
    assert (said["environment"], said["reason"]) == ("production", "because")
    again, effects = run(state, command)
    assert (again, effects) == (state, ())


def test_evidence_says_what_is_promised_and_what_is_open() -> None:
    state = production()
    values = dict(state.values)
    values["serving/digits"] = replace(values["active/digits"], body='{"model":"digits","slo":{"latency_ms":9}}')
    values["incident/slo_burn/digits/1"] = values["active/digits"]
    said = json.loads(evidence(replace(state, values=values), activation(), (), PRODUCTION))
    assert (said["slo"], said["open_incidents"]) == ({"latency_ms": 9}, ["incident/slo_burn/digits/1"])


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (activation(), "unsigned_command"),
        (replace(activation(), author="ann"), "unsigned_command"),
        (signed(activation(), "eve"), "unknown_signer"),
        (signed(activation(), "ann", key_of("eve")), "bad_signature"),
        (replace(signed(activation(), "ann"), author="bob"), "bad_signature"),
        (replace(signed(activation(), "ann"), reason="another"), "bad_signature"),
        (signed(registration("eve"), "ann"), "unsigned_command"),
        (registration("eve"), "unsigned_command"),
        (signed(registration("eve"), "eve", key_of("ann")), "bad_signature"),
        (environment_command(Environment(), "lower"), "unsigned_command"),
        (signed(activation("v9.0.0"), "ann"), "unknown_version"),
        (signed(replace(activation(), reason="x" * 140_000), "ann"), "too_large"),
        (replace(signed(activation(), "ann"), expected_version=7), "version_mismatch"),
    ],
)
def test_what_is_not_even_parked(command: MemoryCommand, code: str) -> None:
    state, effects = run(production(), command)
    assert rejected(effects).code == code
    assert active(state) == "v1.0.0"


def test_a_revoked_author_is_refused() -> None:
    state = production()
    state, effects = run(state, revocation("ann", "bob"))
    assert kinds(effects) == ["SignerRevoked"]
    assert rejected(run(state, signed(activation(), "ann"))[1]).code == "signer_revoked"


def test_a_second_person_approves_the_end_of_a_process_key() -> None:
    """Or whoever can send commands ends the audit log's key, and registers one of their own for it."""
    process = Signer("orchestrator", signer("eve").public_key, "process")
    register_it = replace(registration("orchestrator", process), agent="orchestrator")
    body = to_json(replace(process, revoked_us=5))
    revoke = MemoryCommand("rv", "cli", "RevokeSigner", "signer/orchestrator", -1, body, "lost", (), 5)
    state, effects = run(production(), register_it)
    assert kinds(effects) == ["SignerRegistered"]
    assert rejected(run(state, revoke)[1]).code == "unsigned_command"
    state, request = asked(state, signed(replace(revoke, command_id="rv2"), "ann"))
    _, effects = run(state, decision_of(vote(request.review_id, request.subject_digest)))
    assert kinds(effects) == ["DecisionNoted", "SignerRevoked", "ReviewApproved"]


@pytest.mark.parametrize(
    "command",
    [
        signed(registration("eve"), "eve"),
        signed(environment_command(Environment(), "lower"), "ann"),
        signed(environment_command(replace(PRODUCTION, gated=()), "loosen"), "ann"),
    ],
)
def test_who_may_sign_and_what_waits_wait_themselves(command: MemoryCommand) -> None:
    state, request = asked(production(), command)
    before = state.values.get(command.key)
    assert before is None or before.body != command.body
    state, effects = run(state, decision_of(vote(request.review_id, request.subject_digest)))
    assert state.values[command.key].body == command.body
    assert (kinds(effects)[0], kinds(effects)[-1]) == ("DecisionNoted", "ReviewApproved")


def test_reviews_are_bounded() -> None:
    state = production()
    for number in range(MOST_OPEN):
        state, _ = asked(state, signed(activation(command_id=f"a{number}"), "ann"))
    _, effects = run(state, signed(activation(command_id="one more"), "ann"))
    assert rejected(effects).code == "too_many_reviews"


def test_an_approval_carries_the_command_out_and_is_noted() -> None:
    state, request = asked()
    decision = decision_of(vote(request.review_id, request.subject_digest))
    state, effects = run(state, decision)
    assert kinds(effects) == ["DecisionNoted", "VersionActivated", "ReviewApproved"]
    assert (active(state), told(effects)) == ("v2.0.0", [])
    assert f"review/{request.review_id}" not in state.values
    assert from_json(ReviewDecision, state.values[f"decision/{request.review_id}"].body) == decision
    assert {event.reason for event in events(effects)} == {"because; approved by bob: looks right"}
    assert {event.command_id for event in events(effects)} == {"a1"}


@pytest.mark.parametrize("who", ["bob", "ann"])
def test_a_rejection_drops_it_and_an_author_may_withdraw(who: str) -> None:
    state, request = asked()
    state, effects = run(state, decision_of(vote(request.review_id, request.subject_digest, who, "rejected")))
    assert kinds(effects) == ["DecisionNoted", "CommandRejected", "ReviewRejected"]
    assert rejected(effects) == Rejection(
        "a1", "review_rejected", f"{request.review_id} was rejected by {who}: looks right"
    )
    assert active(state) == "v1.0.0"


REVIEW, REQUEST = asked()
GOOD = vote(REQUEST.review_id, REQUEST.subject_digest)
GOOD_DECISION = decision_of(GOOD)
EXPIRED = ReviewDecision(REQUEST.review_id, "expired", "reviewer", "late", REQUEST.subject_digest, 5)
BY_POLICY = replace(EXPIRED, decision="approved", decided_by="development-policy")


@pytest.mark.parametrize(
    ("decision", "now_us", "code"),
    [
        (decision_of(vote(REQUEST.review_id, REQUEST.subject_digest, "ann")), SECOND, "self_approval"),
        (decision_of(vote(REQUEST.review_id, REQUEST.subject_digest, "eve")), SECOND, "unknown_signer"),
        (decision_of(vote(REQUEST.review_id, REQUEST.subject_digest, "bob", key=key_of("eve"))), 9, "bad_signature"),
        (replace(GOOD_DECISION, signature=""), SECOND, "bad_signature"),
        (replace(GOOD_DECISION, reason="another"), SECOND, "bad_signature"),
        (replace(GOOD_DECISION, voted_us=77), SECOND, "bad_signature"),
        (decision_of(vote(REQUEST.review_id, "00" * 32)), SECOND, "digest_mismatch"),
        (decision_of(vote("r999", REQUEST.subject_digest)), SECOND, "unknown_review"),
        (decision_of(vote(REQUEST.review_id, REQUEST.subject_digest, decision="maybe")), SECOND, "unknown_decision"),
        (GOOD_DECISION, DEADLINE_US, "approval_expired"),
        (EXPIRED, DEADLINE_US - 1, "not_expired"),
        (BY_POLICY, SECOND, "bad_signature"),
        (replace(EXPIRED, reason="x" * 501), DEADLINE_US, "invalid_reason"),
        (replace(EXPIRED, decided_by="ann"), DEADLINE_US, "bad_signature"),
        (replace(EXPIRED, signature="ab" * 64), DEADLINE_US, "bad_signature"),
        (decision_of(vote(REQUEST.review_id, REQUEST.subject_digest, time_us=SECOND - 1)), SECOND, "stale_vote"),
    ],
)
def test_every_refusal_is_an_event_and_told(decision: ReviewDecision, now_us: int, code: str) -> None:
    state, effects = run(REVIEW, decision, now_us=now_us)
    found = rejected(effects)
    assert (found.code, found.command_id) == (code, vote_id(vote_of(decision)))
    assert [(each.escalation_id, each.agent) for each in told(effects)] == [(found.command_id, "orchestrator")]
    assert told(effects)[0].reason.startswith(f"{code}: ")
    assert (active(state), f"review/{REQUEST.review_id}" in state.values) == ("v1.0.0", True)


def test_a_replayed_approval_is_refused() -> None:
    state, _ = run(REVIEW, GOOD_DECISION)
    back = activation("v1.0.0", command_id="back")
    state, request = asked(state, signed(back, "ann"))
    _, effects = run(state, GOOD_DECISION)
    assert rejected(effects).code == "approval_used"
    forged = replace(GOOD_DECISION, review_id=request.review_id)
    assert rejected(run(state, forged)[1]).code == "digest_mismatch"
    forged = replace(forged, subject_digest=request.subject_digest)
    assert rejected(run(state, forged)[1]).code == "bad_signature"


def test_a_revoked_signer_approves_no_more() -> None:
    _, effects = run(REVIEW, revocation("bob", "ann"), GOOD_DECISION)
    assert rejected(effects).code == "signer_revoked"


def test_what_was_approved_is_judged_anew() -> None:
    state = production()
    command = signed(replace(activation(), expected_version=1), "ann")
    state, first = asked(state, command)
    state, second = asked(state, signed(replace(activation(command_id="a2"), expected_version=1), "bob"))
    state, effects = run(state, decision_of(vote(second.review_id, second.subject_digest, "ann")))
    assert kinds(effects)[1] == "VersionActivated"
    state, _ = run(state, register(model_version(version="v3.0.0"), "m3"))
    state, third = asked(state, signed(activation("v3.0.0", command_id="a3"), "ann"))
    state, _ = run(state, decision_of(vote(third.review_id, third.subject_digest)))
    state, effects = run(state, decision_of(vote(first.review_id, first.subject_digest)))
    assert kinds(effects) == ["DecisionNoted", "CommandRejected", "ReviewApproved"]
    assert (rejected(effects).code, active(state)) == ("version_mismatch", "v3.0.0")
    assert rejected(run(state, decision_of(vote(first.review_id, first.subject_digest)))[1]).code == "approval_used"


def test_the_deadline_closes_a_review() -> None:
    state, effects = run(REVIEW, EXPIRED, now_us=DEADLINE_US)
    assert kinds(effects) == ["DecisionNoted", "CommandRejected", "ReviewExpired"]
    assert (rejected(effects).code, active(state)) == ("review_expired", "v1.0.0")


def test_what_expires_of_others_is_not_the_orchestrators() -> None:
    assert run(REVIEW, replace(EXPIRED, review_id="q1"), now_us=DEADLINE_US) == (REVIEW, ())


def test_a_sandbox_approves_by_policy_until_it_is_none_any_more() -> None:
    state, request = asked(production(environment=Environment()), activation())
    assert (request.policy, request.author) == ("development", "cli")
    decision = replace(BY_POLICY, review_id=request.review_id, subject_digest=request.subject_digest)
    done, effects = run(state, decision)
    assert (kinds(effects)[1], active(done)) == ("VersionActivated", "v2.0.0")
    state, _ = run(state, environment_command(PRODUCTION, "raise"))
    assert rejected(run(state, decision)[1]).code == "bad_signature"
    by_bob = decision_of(vote(request.review_id, request.subject_digest))
    assert rejected(run(state, by_bob)[1]).code == "environment_changed"


@pytest.mark.parametrize("said", ["rejected", "maybe", ""])
def test_the_development_policy_approves_and_says_nothing_else(said: str) -> None:
    state, request = asked(production(environment=Environment()), activation())
    decision = replace(BY_POLICY, review_id=request.review_id, subject_digest=request.subject_digest, decision=said)
    state, effects = run(state, decision)
    assert (rejected(effects).code, active(state)) == ("unknown_decision", "v1.0.0")


def test_an_author_whose_key_was_revoked_meanwhile_gets_nothing_any_more() -> None:
    state, _ = run(REVIEW, revocation("ann", "bob"))
    state, effects = run(state, GOOD_DECISION)
    assert kinds(effects) == ["DecisionNoted", "CommandRejected", "ReviewApproved"]
    assert (rejected(effects).code, active(state)) == ("signer_revoked", "v1.0.0")


def test_a_refusal_that_comes_again_is_kept_as_long_as_its_last_time() -> None:
    forged = replace(GOOD_DECISION, signature="")
    state, effects = run(REVIEW, forged, forged)
    key = f"rejections/{rejected(effects[:2]).command_id}"
    others = (replace(forged, reason=f"no {number}") for number in range(KEPT_REJECTIONS - 1))
    state, _ = run(state, *others)
    assert (len(state.rejections), len(set(state.rejections)), key in state.values) == (256, 256, True)
    state, effects = run(state, replace(forged, reason="one more"))
    assert key not in state.values
    assert [event.version for event in events(effects) if event.kind == "RejectionForgotten"] == [3]


def test_the_largest_reference_may_wait() -> None:
    state = production(environment=replace(PRODUCTION, gated=("SetReference",)))
    body = to_json({f"m{number:04}": number for number in range(4_800)})
    assert len(body) > MAX_BYTES * 9 // 10
    command = signed(MemoryCommand("s", "cli", "SetReference", "reference/digits/v1", -1, body, "", (), 5), "ann")
    verdict, effects = gated(state, command, (Change("ReferenceSet", command.key, body),), SECOND)
    assert not isinstance(verdict, Refusal)
    assert (verdict[0].kind, len(effects)) == ("ReviewOpened", 1)


def test_what_waits_fits_a_snapshot() -> None:
    """The worst there is: reasons of quotes, which double each time they are written as JSON in JSON."""
    state = production()
    for number in range(MOST_OPEN):
        command = replace(activation(command_id=f"a{number}"), reason='"' * 32_000)
        state, _ = run(state, signed(command, "ann"))
    assert len(to_json(to_json(state))) < MAX_RECORD_BYTES
    state, _ = run(state, signed(replace(activation(command_id="wide"), reason="\u20ac" * 60_000), "ann"))
    assert "rejections/wide" in state.values


def test_a_sandbox_may_want_people() -> None:
    state = production(environment=Environment(development_policy=False))
    assert rejected(run(state, activation())[1]).code == "unsigned_command"
    _, request = asked(state, signed(activation(), "ann"))
    assert request.policy == "people"


def test_agents_are_not_gated() -> None:
    state = production(environment=replace(PRODUCTION, gated=("ProposePlan",)))
    change = (Change("PlanMadeEffective", "plan/digits", "{}"),)
    command = replace(activation(), agent="planner", kind="ProposePlan")
    assert gated(state, command, change, SECOND) == (change, ())
    refusal = Refusal("x", "y")
    assert gated(state, activation(), refusal, SECOND) == (refusal, ())


def test_kept_decisions_are_bounded_and_the_oldest_goes() -> None:
    state = production()
    for number in range(KEPT_DECISIONS + 1):
        wanted = ("v2.0.0", "v1.0.0")[number % 2]
        state, request = asked(state, signed(activation(wanted, command_id=f"n{number}"), "ann"))
        state, effects = run(state, decision_of(vote(request.review_id, request.subject_digest)))
    kept = [key for key in state.values if key.startswith("decision/")]
    assert len(kept) == KEPT_DECISIONS
    assert "DecisionForgotten" in kinds(effects)


VOTES = st.sampled_from(("ann", "bob", "eve", "carol"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(VOTES, st.sampled_from(("approved", "rejected")), st.integers(0, 90), st.booleans()), max_size=8)
)
def test_in_any_order_at_most_one_decision_holds_and_never_the_authors(
    votes: list[tuple[str, str, int, bool]],
) -> None:
    """Carol's key is another's; some decisions are forged in one field; time only goes on."""
    state, now_us, held = REVIEW, SECOND, []
    for name, said, seconds, is_forged in votes:
        now_us += seconds * SECOND
        given_vote = vote(REQUEST.review_id, REQUEST.subject_digest, name, said)
        decision = decision_of(replace(given_vote, reason="forged") if is_forged else given_vote)
        before = active(state)
        state, effects = run(state, decision, now_us=now_us)
        if "DecisionNoted" in kinds(effects):
            held.append((name, said, is_forged, now_us))
        else:
            assert (active(state), kinds(effects)) == (before, ["CommandRejected"])
    assert len(held) <= 1
    for name, said, is_forged, when in held:
        assert not is_forged
        assert name in (("bob",) if said == "approved" else ("ann", "bob"))
        assert when < DEADLINE_US
    assert (active(state) == "v2.0.0") == any(said == "approved" for _, said, _, _ in held)
