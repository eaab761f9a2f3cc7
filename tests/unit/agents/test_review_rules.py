"""Who may sign, and what the environment may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.review_rules import declare_environment, register_signer, revoke_signer, set_environment
from agents.verdict import Change, Refusal, State, Value, Verdict
from schemas.environment import Environment, Signer
from schemas.memory import MemoryCommand
from streams.canonical import to_json
from tests.support.signers import PRODUCTION, environment_command, registration, signer

ANN, BOB = signer("ann"), signer("bob")


def state_with(*people: Signer, environment: Environment | None = None) -> State:
    values = {f"signer/{each.name}": Value(1, to_json(each)) for each in people}
    if environment is not None:
        values["environment"] = Value(1, to_json(environment))
    return State(len(values), values)


def revocation(who: Signer, revoked_us: int = 7) -> MemoryCommand:
    body = to_json(replace(who, revoked_us=revoked_us))
    return MemoryCommand("r", "cli", "RevokeSigner", f"signer/{who.name}", -1, body, "lost", (), 5)


def code(verdict: Verdict) -> str:
    return verdict.code if isinstance(verdict, Refusal) else "+".join(change.kind for change in verdict)


def test_a_person_is_registered() -> None:
    assert register_signer(State(), registration("ann")) == (Change("SignerRegistered", "signer/ann", to_json(ANN)),)


@pytest.mark.parametrize(
    ("known", "name", "body", "expected"),
    [
        ((ANN,), "ann", replace(ANN, public_key=BOB.public_key), "signer_exists"),
        ((replace(ANN, revoked_us=3),), "ann", replace(ANN, public_key=BOB.public_key), "SignerRegistered"),
        ((replace(ANN, revoked_us=3),), "ann", ANN, "key_in_use"),
        ((ANN,), "bob", replace(BOB, public_key=ANN.public_key), "key_in_use"),
        ((), "ann", BOB, "invalid_signer"),
        ((), "ann", replace(ANN, public_key="ab"), "invalid_signer"),
        ((), "ann", replace(ANN, revoked_us=1), "invalid_signer"),
        ((), "ann", replace(ANN, kind="process"), "invalid_signer"),
        ((), "orchestrator", replace(ANN, name="orchestrator", kind="process"), "invalid_signer"),
        ((), "orchestrator", replace(ANN, name="orchestrator"), "invalid_signer"),
        ((), "development-policy", replace(ANN, name="development-policy"), "invalid_signer"),
        ((), "a/b", replace(ANN, name="a/b"), "invalid_signer"),
    ],
)
def test_registrations(known: tuple[Signer, ...], name: str, body: Signer, expected: str) -> None:
    assert code(register_signer(state_with(*known), registration(name, body))) == expected


@pytest.mark.parametrize(
    ("standing", "said"),
    [(ANN, "This key is ann's; bob needs another one."),
     (replace(ANN, revoked_us=3), "This key was ann's and is revoked; bob needs another one.")],
)  # fmt: skip
def test_whose_key_it_is(standing: Signer, said: str) -> None:
    verdict = register_signer(state_with(standing), registration("bob", replace(BOB, public_key=ANN.public_key)))
    assert verdict == Refusal("key_in_use", said)


def test_a_process_registers_itself() -> None:
    body = replace(ANN, name="orchestrator", kind="process")
    command = replace(registration("orchestrator", body), agent="orchestrator")
    assert code(register_signer(State(), command)) == "SignerRegistered"
    assert code(register_signer(State(), replace(registration("ann"), agent="orchestrator"))) == "invalid_signer"


@pytest.mark.parametrize(
    ("state", "command", "expected"),
    [
        (state_with(ANN), revocation(ANN), "SignerRevoked"),
        (state_with(ANN, environment=Environment()), revocation(ANN), "SignerRevoked"),
        (state_with(ANN, environment=PRODUCTION), revocation(ANN), "last_signer"),
        (state_with(ANN, replace(BOB, revoked_us=1), environment=PRODUCTION), revocation(ANN), "last_signer"),
        (state_with(ANN, BOB, environment=PRODUCTION), revocation(ANN), "SignerRevoked"),
        (state_with(BOB), revocation(ANN), "unknown_signer"),
        (state_with(replace(ANN, revoked_us=3)), revocation(ANN), "invalid_signer"),
        (state_with(ANN), revocation(replace(ANN, public_key=BOB.public_key)), "invalid_signer"),
        (state_with(ANN), revocation(ANN, 0), "invalid_signer"),
    ],
)
def test_revocations(state: State, command: MemoryCommand, expected: str) -> None:
    assert code(revoke_signer(state, command)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (PRODUCTION, "EnvironmentSet"),
        (Environment("staging", (), False, 1), "EnvironmentSet"),
        (replace(PRODUCTION, development_policy=True), "invalid_environment"),
        (replace(PRODUCTION, review_s=0), "invalid_environment"),
        (replace(PRODUCTION, review_s=31 * 86_400), "invalid_environment"),
        (replace(PRODUCTION, gated=("A", "A")), "invalid_environment"),
        (replace(PRODUCTION, gated=("",)), "invalid_environment"),
    ],
)
def test_environments(wanted: Environment, expected: str) -> None:
    assert code(set_environment(State(), environment_command(wanted))) == expected
    assert code(declare_environment(State(), environment_command(wanted))) == expected


def test_the_environment_has_one_key() -> None:
    assert code(set_environment(State(), replace(environment_command(PRODUCTION), key="env"))) == "invalid_body"


def test_a_stricter_start_keeps_what_waits_already() -> None:
    staging = Environment("staging", ("SetServingPolicy", "ActivateVersion"), False, 60)
    for wanted in (PRODUCTION, replace(PRODUCTION, gated=())):
        verdict = declare_environment(state_with(environment=staging), environment_command(wanted))
        assert verdict == (Change("EnvironmentSet", "environment", to_json(replace(PRODUCTION, gated=staging.gated))),)


@pytest.mark.parametrize(
    ("standing", "wanted", "expected"),
    [
        (Environment(), PRODUCTION, "EnvironmentSet"),
        (Environment(), Environment(review_s=5), ""),
        (PRODUCTION, Environment(), ""),
        (PRODUCTION, replace(PRODUCTION, gated=()), ""),
    ],
)
def test_a_start_raises_and_never_lowers(standing: Environment, wanted: Environment, expected: str) -> None:
    assert code(declare_environment(state_with(environment=standing), environment_command(wanted))) == expected
