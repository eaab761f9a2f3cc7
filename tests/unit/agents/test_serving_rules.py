"""What the Orchestrator allows of serving policies, activations and breakers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents import orchestrator
from agents.orchestrator import decide
from agents.serving_rules import MAX_ATTEMPTS, MAX_FALLBACKS
from agents.verdict import State
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.model import TensorSpec
from schemas.serving import Breaker, ServingPolicy, Slo
from streams.canonical import to_json
from streams.memory_fold import extend
from streams.memory_view import (
    ActiveVersion,
    MemoryView,
    active_version,
    all_breakers,
    breakers,
    rejection,
    serving_policy,
)
from tests.support.control import at, chained, model_version
from tests.unit.agents.test_orchestrator import register

V1, V2 = model_version(), model_version(version="v2.0.0", digest="cd" * 32)
OTHER_INPUTS = replace(model_version(version="v3.0.0", digest="ef" * 32), inputs=(TensorSpec("x", "FP32", (4,)),))
BREAKER = Breaker("digits", "v2.0.0", "open", "20 of 20 rows failed", 1_000_000, 15_000_000)
BREAKER_KEY = "breaker/digits/v2.0.0"


def command(kind: str, key: str, body: Any, *, agent: str = "cli", number: int = 0) -> MemoryCommand:
    text = body if isinstance(body, str) else to_json(body)
    return MemoryCommand(f"{kind}-{number}-{text}", agent, kind, key, -1, text, "because", (), 5)


def policy(body: ServingPolicy) -> MemoryCommand:
    return command("SetServingPolicy", f"serving/{body.model}", body)


def moved(kind: str, body: Any, number: int = 0) -> MemoryCommand:
    return command(kind, BREAKER_KEY, body, agent="monitor", number=number)


class Memory:
    """The Orchestrator with three versions, and memory as it reads."""

    def __init__(self) -> None:
        self.state, self.view = State(), MemoryView()
        for number, version in enumerate((V1, V2, OTHER_INPUTS)):
            self.handle(register(version, f"r{number}"))

    def handle(self, given: MemoryCommand) -> list[MemoryEvent]:
        self.state, effects = decide(self.state, at(given), None)
        self.view, _ = extend(self.view, chained(effects, self.view.head))
        return [effect.record for effect in effects]

    def kinds(self, given: MemoryCommand) -> list[str]:
        return [event.kind for event in self.handle(given)]

    def refused(self, given: MemoryCommand) -> str:
        assert self.kinds(given)[0] == "CommandRejected"
        found = rejection(self.view, given.command_id)
        assert found is not None
        assert found.message.endswith(".")
        return found.code


def test_a_policy_is_set_and_read() -> None:
    memory = Memory()
    wanted = ServingPolicy("digits", ("v2.0.0",), 3, True, True, Slo(250, 10_000, 1_000))
    assert memory.kinds(policy(wanted)) == ["ServingPolicySet"]
    assert serving_policy(memory.view, "digits") == wanted
    assert serving_policy(memory.view, "other") is None
    assert memory.kinds(replace(policy(wanted), command_id="again")) == []


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (ServingPolicy("nobody"), "unknown_model"),
        (ServingPolicy("digits", ("v9.0.0",)), "unknown_version"),
        (ServingPolicy("digits", ("v3.0.0",)), "invalid_fallback"),
        (ServingPolicy("digits", ("v2.0.0", "v2.0.0")), "invalid_policy"),
        (ServingPolicy("digits", tuple(f"v{n}.0.0" for n in range(MAX_FALLBACKS + 1))), "invalid_policy"),
        (ServingPolicy("digits", max_attempts=0), "invalid_policy"),
        (ServingPolicy("digits", max_attempts=MAX_ATTEMPTS + 1), "invalid_policy"),
        (ServingPolicy("digits", slo=Slo()), "invalid_policy"),
        (ServingPolicy("digits", slo=Slo(170, 10_000)), "invalid_policy"),
        (ServingPolicy("digits", slo=Slo(error_ppm=500_000)), "invalid_policy"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(wanted: ServingPolicy, code: str) -> None:
    assert Memory().refused(policy(wanted)) == code


def test_a_policy_under_the_wrong_key_or_with_a_wrong_body_is_refused() -> None:
    memory = Memory()
    assert memory.refused(command("SetServingPolicy", "serving/other", ServingPolicy("digits"))) == "invalid_body"
    assert memory.refused(command("SetServingPolicy", "serving/digits", '{"model":"digits","max":1}')) == "invalid_body"


def test_another_version_becomes_active_and_a_lower_one_is_a_roll_back() -> None:
    memory = Memory()
    assert active_version(memory.view, "digits") == "v1.0.0"
    up = command("ActivateVersion", "active/digits", ActiveVersion("digits", "v2.0.0"))
    down = command("ActivateVersion", "active/digits", ActiveVersion("digits", "v1.0.0"), number=1)
    assert memory.kinds(up) == ["VersionActivated"]
    assert active_version(memory.view, "digits") == "v2.0.0"
    assert memory.kinds(down) == ["VersionRolledBack"]
    assert active_version(memory.view, "digits") == "v1.0.0"


@pytest.mark.parametrize(
    ("key", "wanted", "code"),
    [
        ("active/nobody", ActiveVersion("nobody", "v1.0.0"), "unknown_model"),
        ("active/digits", ActiveVersion("digits", "v9.0.0"), "unknown_version"),
        ("active/other", ActiveVersion("digits", "v2.0.0"), "invalid_body"),
    ],
)
def test_what_cannot_be_activated_is_refused(key: str, wanted: ActiveVersion, code: str) -> None:
    assert Memory().refused(command("ActivateVersion", key, wanted)) == code


def test_a_breaker_opens_half_opens_and_closes() -> None:
    memory = Memory()
    half = replace(BREAKER, state="half_open", since_us=16_000_000)
    assert memory.kinds(moved("OpenBreaker", BREAKER)) == ["BreakerOpened"]
    assert breakers(memory.view, "digits") == {"v2.0.0": BREAKER}
    assert memory.kinds(moved("HalfOpenBreaker", half)) == ["BreakerHalfOpened"]
    assert breakers(memory.view, "digits") == {"v2.0.0": half}
    (event,) = memory.handle(moved("CloseBreaker", ""))
    assert (event.kind, event.key, event.body, event.reason) == ("BreakerClosed", BREAKER_KEY, None, "because")
    assert all_breakers(memory.view) == {}
    assert memory.kinds(moved("CloseBreaker", "", number=1)) == []


def test_the_same_command_twice_is_one_move() -> None:
    memory = Memory()
    assert memory.kinds(moved("OpenBreaker", BREAKER)) == ["BreakerOpened"]
    assert memory.kinds(moved("CloseBreaker", "")) == ["BreakerClosed"]
    assert memory.kinds(moved("OpenBreaker", BREAKER)) == []  # late, and handled before


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("OpenBreaker", replace(BREAKER, version="v9.0.0"), "invalid_body"),
        ("OpenBreaker", replace(BREAKER, state="half_open"), "invalid_breaker"),
        ("OpenBreaker", replace(BREAKER, open_us=0), "invalid_breaker"),
        ("OpenBreaker", replace(BREAKER, open_us=301_000_000), "invalid_breaker"),
        ("HalfOpenBreaker", replace(BREAKER, state="half_open"), "not_open"),
        ("HalfOpenBreaker", BREAKER, "invalid_breaker"),
    ],
)
def test_a_move_that_cannot_be_is_refused(kind: str, body: Breaker, code: str) -> None:
    assert Memory().refused(moved(kind, body)) == code


def test_a_breaker_of_no_version_and_one_of_nobodys_is_refused() -> None:
    memory = Memory()
    unknown = replace(BREAKER, version="v9.0.0")
    assert memory.refused(replace(moved("OpenBreaker", unknown), key="breaker/digits/v9.0.0")) == "unknown_version"
    assert memory.refused(replace(moved("OpenBreaker", BREAKER), agent="cli", command_id="x")) == "not_permitted"
    assert memory.refused(replace(moved("CloseBreaker", ""), key="plan/digits")) == "invalid_body"


def test_without_breakers_what_is_open_closes_and_nothing_opens() -> None:
    memory = Memory()
    memory.handle(moved("OpenBreaker", BREAKER))
    assert memory.kinds(policy(ServingPolicy("digits", breaker=False))) == ["ServingPolicySet", "BreakerClosed"]
    assert all_breakers(memory.view) == {}
    assert memory.refused(moved("OpenBreaker", replace(BREAKER, since_us=9_000_000))) == "breaker_off"


def test_every_rule_has_its_command() -> None:
    wanted = {"SetServingPolicy", "ActivateVersion", "OpenBreaker", "HalfOpenBreaker", "CloseBreaker"}
    assert wanted <= set(orchestrator.COMMANDS)
