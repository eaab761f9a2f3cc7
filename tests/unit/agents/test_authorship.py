"""Who must stand behind a command: the table of the module, each cell of it, and every refusal by its code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.approval import DEVELOPMENT
from agents.authorship import attributed, holders, must_be_signed, need_of, refused_author
from agents.orchestrator import decide
from agents.verdict import State, Value
from schemas.canary import Canary
from schemas.environment import Environment, OpenReview, Signer
from schemas.known_good import Activation, Configuration
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import ReviewDecision
from schemas.serving import ServingPolicy
from streams.agent import Effects
from streams.audit_facts import audited
from streams.canonical import from_json, to_json
from streams.memory_view import MemoryView, Rejection
from tests.support.control import SECOND, at
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

STAGING = Environment("staging", ("ActivateVersion",), False, 60)
WATCHED = Environment(development_policy=False, review_s=60)
"""A sandbox in which people approve."""
NOWHERE = None
PROCESS = Signer("orchestrator", signer("eve").public_key, "process")
END_PROCESS = MemoryCommand(
    "rp", "cli", "RevokeSigner", "signer/orchestrator", -1, to_json(replace(PROCESS, revoked_us=5)), "lost", (), 5
)
PLACES: dict[str, Environment | None] = {
    "nowhere": NOWHERE, "sandbox": Environment(), "watched": WATCHED, "staging": STAGING, "production": PRODUCTION
}  # fmt: skip


def memory(environment: Environment | None, *people: Signer) -> State:
    values = {f"signer/{each.name}": Value(1, to_json(each)) for each in (*people, PROCESS)}
    if environment is not None:
        values["environment"] = Value(1, to_json(environment))
    return State(len(values), values)


def run(state: State, *records: Any, now_us: int = SECOND) -> tuple[State, Effects]:
    effects: Effects = ()
    for record in records:
        state, made = decide(state, at(record, now_us), None)
        effects += made
    return state, effects


def events(effects: Effects) -> list[MemoryEvent]:
    return [each.record for each in effects if isinstance(each.record, MemoryEvent)]


def said(effects: Effects) -> str:
    """What came of a command: the kinds of its events, or the code of its refusal."""
    found = events(effects)
    if found and found[0].kind == "CommandRejected":
        return from_json(Rejection, found[0].body or "").code
    return "+".join(event.kind for event in found)


REGISTER, REVOKE, LOWER = registration("carol"), revocation("bob"), environment_command(Environment())


@pytest.mark.parametrize(
    ("place", "first", "register", "revoke", "end_process", "lower", "activate"),
    [
        ("nowhere", "nothing", "signature", "signature", "signature", "nothing", "nothing"),
        ("sandbox", "nothing", "note", "note", "note", "nothing", "note"),
        ("watched", "nothing", "approval", "signature", "signature", "signature", "approval"),
        ("staging", "nothing", "approval", "signature", "approval", "approval", "approval"),
        ("production", "nothing", "approval", "signature", "approval", "approval", "approval"),
    ],
)
def test_the_table(
    place: str, first: str, register: str, revoke: str, end_process: str, lower: str, activate: str
) -> None:
    environment = PLACES[place]
    state = memory(environment, signer("ann"), signer("bob"))
    assert need_of(memory(environment), REGISTER) == first
    commands = (REGISTER, REVOKE, END_PROCESS, LOWER, activation())
    assert [need_of(state, each) for each in commands] == [register, revoke, end_process, lower, activate]
    for each in commands:
        assert must_be_signed(state, each) == (need_of(state, each) in ("signature", "approval"))
        assert need_of(state, replace(each, agent="planner")) == "nothing"


@pytest.mark.parametrize(
    ("place", "need"),
    [("nowhere", "nothing"), ("sandbox", "note"), ("watched", "approval"), ("staging", "approval")],
)
def test_a_share_that_the_scaler_gives_a_version_is_as_an_activation(place: str, need: str) -> None:
    share = MemoryCommand("c", "scaler", "SetCanary", "canary/m", -1, to_json(Canary("m", "v2", 99)), "load", (), 1)
    state = memory(PLACES[place], signer("ann"))
    assert need_of(state, share) == need
    given = replace(state, values={**state.values, "canary/m": Value(2, share.body or "")})
    back = replace(share, body=to_json(Canary("m", "v2", 0)))
    assert need_of(given, back) == "nothing"
    if need == "approval":
        assert getattr(refused_author(state, share), "code", "") == "unsigned_command"


@pytest.mark.parametrize("command", [REGISTER, REVOKE, END_PROCESS])
def test_what_somebody_registered_signed_is_noted_nowhere(command: MemoryCommand) -> None:
    state = memory(Environment(), signer("ann"), signer("bob"))
    assert need_of(state, signed(command, "ann")) == "nothing"
    for forged in (signed(command, "eve"), signed(command, "ann", key_of("eve")), replace(command, author="ann")):
        assert need_of(state, forged) == "note"


def test_the_first_key_is_believed_and_so_is_the_first_after_all_were_revoked() -> None:
    gone = replace(signer("ann"), revoked_us=3)
    for environment in PLACES.values():
        state, effects = run(memory(environment, gone), registration("bob"))
        assert said(effects) == "SignerRegistered"
        assert [each.name for each in holders(state)] == ["bob"]


@pytest.mark.parametrize("place", ["nowhere", "watched", "staging", "production"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (revocation("bob"), "unsigned_command"),
        (replace(revocation("bob"), author="ann"), "unsigned_command"),
        (revocation("bob", "eve"), "unknown_signer"),
        (revocation("bob", "orchestrator", key_of("eve")), "unknown_signer"),
        (revocation("bob", "ann", key_of("eve")), "bad_signature"),
        (replace(revocation("bob", "ann"), reason="another"), "bad_signature"),
        (replace(revocation("bob", "ann"), body=to_json(replace(signer("bob"), revoked_us=6))), "bad_signature"),
        (revocation("bob", "dan"), "signer_revoked"),
        (revocation("carol", "ann"), "unknown_signer"),
    ],
)
def test_a_stranger_ends_no_key(place: str, command: MemoryCommand, code: str) -> None:
    people = signer("ann"), signer("bob"), replace(signer("dan"), revoked_us=2)
    before = memory(PLACES[place], *people)
    state, effects = run(before, command)
    assert said(effects) == code
    assert state.values["signer/bob"] == before.values["signer/bob"]


@pytest.mark.parametrize("place", ["nowhere", "watched", "staging", "production"])
@pytest.mark.parametrize("by", ["ann", "bob"])
def test_somebody_registered_ends_a_key_at_once_and_the_event_says_who(place: str, by: str) -> None:
    state, effects = run(memory(PLACES[place], signer("ann"), signer("bob")), revocation("bob", by))
    assert said(effects) == "SignerRevoked"
    assert events(effects)[0].reason == f"lost; signed by {by}"
    assert [each.name for each in holders(state)] == ["ann"]
    assert said(run(state, revocation("ann", "bob", command_id="back"))[1]) in ("signer_revoked", "last_signer")


def test_the_audit_log_is_told_who_signed_and_who_was_refused() -> None:
    state, effects = run(
        memory(PRODUCTION, signer("ann"), signer("bob")),
        revocation("bob"),
        revocation("bob", "ann", command_id="signed"),
    )
    refused, ended = (audited(MemoryView(), event) for event in events(effects))
    assert refused is not None
    assert (refused[1].outcome, refused[1].error_detail) == (
        "refused", "unsigned_command: RevokeSigner needs the signature of somebody registered."
    )  # fmt: skip
    assert ended is not None
    assert (ended[1].operation, ended[1].outcome) == ("memory.SignerRevoked", "done")
    assert ended[1].command == "SignerRevoked signer/bob: lost; signed by ann"
    assert [each.name for each in holders(state)] == ["ann"]


def test_without_an_environment_somebody_registered_signs_for_the_next() -> None:
    state, effects = run(State(), *two_people())
    assert said(effects) == "SignerRegistered+SignerRegistered"
    assert [event.reason for event in events(effects)] == ["new", "new; signed by ann"]
    for stranger in (registration("eve"), signed(registration("eve"), "eve")):
        assert said(run(state, stranger)[1]) in ("unsigned_command", "unknown_signer")


@pytest.mark.parametrize("command", [REGISTER, signed(REGISTER, "carol"), revocation("bob")])
def test_a_sandbox_notes_what_it_skipped(command: MemoryCommand) -> None:
    state, effects = run(memory(Environment(), signer("ann"), signer("bob")), command)
    assert said(effects) == "ReviewOpened"
    request = from_json(OpenReview, events(effects)[0].body or "").request
    assert request.policy == "development"
    decision = ReviewDecision(request.review_id, "approved", DEVELOPMENT, "skipped", request.subject_digest, SECOND)
    state, effects = run(state, decision)
    assert said(effects).split("+")[1] in ("SignerRegistered", "SignerRevoked")
    assert events(effects)[1].reason.endswith("; approved by development-policy: skipped")


def test_what_a_sandbox_would_have_noted_is_not_done_where_it_is_none_any_more() -> None:
    state, effects = run(memory(Environment(), signer("ann"), signer("bob")), revocation("bob"))
    request = from_json(OpenReview, events(effects)[0].body or "").request
    state, _ = run(state, environment_command(PRODUCTION))
    by_ann = decision_of(vote(request.review_id, request.subject_digest, "ann"))
    assert said(run(state, by_ann)[1]) == "environment_changed"
    assert [each.name for each in holders(state)] == ["ann", "bob"]


@pytest.mark.parametrize("environment", [WATCHED, STAGING, PRODUCTION])
def test_a_new_person_signs_and_somebody_registered_vouches(environment: Environment) -> None:
    state = memory(environment, signer("ann"))
    assert said(run(state, signed(registration("carol"), "ann"))[1]) == "unsigned_command"
    state, effects = run(state, signed(registration("carol"), "carol"))
    assert said(effects) == "ReviewOpened"
    request = from_json(OpenReview, events(effects)[0].body or "").request
    itself = decision_of(vote(request.review_id, request.subject_digest, "carol"))
    assert said(run(state, itself)[1]) == "unknown_signer"
    _, effects = run(state, decision_of(vote(request.review_id, request.subject_digest, "ann")))
    assert said(effects) == "DecisionNoted+SignerRegistered+ReviewApproved"


def test_a_revocation_that_was_signed_once_ends_no_later_key() -> None:
    end = revocation("bob", "ann")
    state, _ = run(memory(PRODUCTION, signer("ann"), signer("bob")), end)
    later = Signer("bob", signer("bob's second").public_key)
    values = {**state.values, "signer/bob": Value(3, to_json(later))}
    assert said(run(replace(state, values=values, seen=()), end)[1]) == "invalid_signer"


def test_a_sandbox_in_which_people_approve_is_not_made_one_without_them_by_a_stranger() -> None:
    state = memory(WATCHED, signer("ann"))
    for stranger in (LOWER, signed(LOWER, "eve")):
        assert said(run(state, stranger)[1]) in ("unsigned_command", "unknown_signer")
    assert said(run(state, signed(LOWER, "ann"))[1]) == "EnvironmentSet"
    assert said(run(memory(WATCHED), LOWER)[1]) == "EnvironmentSet"


def test_only_a_change_of_who_may_sign_names_its_signer() -> None:
    state = memory(PRODUCTION, signer("ann"), signer("bob"))
    assert attributed(state, signed(activation(), "ann")).reason == "because"
    assert attributed(state, revocation("bob", "eve")).reason == "lost"
    assert refused_author(state, signed(activation(), "ann")) is None


@given(by=st.sampled_from(("", "ann", "bob", "dan", "eve", "orchestrator")), key=st.sampled_from(("", "ann", "eve")))
def test_a_key_ends_only_by_a_signature_of_somebody_whose_key_holds(by: str, key: str) -> None:
    people = signer("ann"), signer("bob"), replace(signer("dan"), revoked_us=2)
    state, effects = run(memory(PRODUCTION, *people), revocation("bob", by, key_of(key) if key else None))
    is_theirs = by in ("ann", "bob") and key in ("", by)
    assert (said(effects) == "SignerRevoked") == is_theirs
    assert len(holders(state)) == (1 if is_theirs else 2)


@pytest.mark.parametrize("gated", [("SetServingPolicy",), ("SetCachePolicy",), ("ActivateVersion",)])
def test_a_roll_back_with_its_policies_waits_where_setting_one_does(gated: tuple[str, ...]) -> None:
    state = memory(Environment("production", gated, False, 60), signer("ann"), signer("bob"))
    configuration = Configuration(ServingPolicy("digits"), None)
    back = replace(activation(), body=to_json(Activation("digits", "v1.0.0", configuration)))
    assert need_of(state, back) == "approval"
    plain = replace(activation(), body=to_json(Activation("digits", "v1.0.0")))
    assert need_of(state, plain) == ("approval" if "ActivateVersion" in gated else "nothing")
