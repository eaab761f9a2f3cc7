"""Which serving policy stands, and the commands that change it or the active version."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from agents.orchestrator import COMMANDS
from infra.memory_command import AGENT
from infra.serving_control import (
    ChangeRefusedError,
    activation_command,
    changed_slo,
    policy_command,
    standing,
)
from schemas.memory import MemoryEntry
from schemas.serving import ServingPolicy, Slo
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, MemoryView, Rejection
from tests.support.frames import MODEL, memory

VIEW = memory(MODEL)
WANTED = ServingPolicy("digits", ("v1.0.0",), 3, True, False)


def with_entry(view: MemoryView, key: str, body: object, version: int = 4) -> MemoryView:
    entry = MemoryEntry(key, version, view.sequence + 1, to_json(body), 5)
    return replace(view, sequence=view.sequence + 1, entries=MappingProxyType({**view.entries, key: entry}))


def test_a_model_without_a_policy_has_the_defaults() -> None:
    assert standing(VIEW, "digits") == ServingPolicy("digits", (), 2, False, True)
    assert standing(with_entry(VIEW, "serving/digits", WANTED), "digits") == WANTED
    with pytest.raises(ChangeRefusedError, match="No model nobody is registered") as refused:
        standing(VIEW, "nobody")
    assert refused.value.exit_code == 3


def test_a_policys_command_is_for_the_version_that_stands_and_the_same_twice() -> None:
    command = policy_command(WANTED, VIEW, 5)
    assert (command.key, command.kind, command.expected_version) == ("serving/digits", "SetServingPolicy", 0)
    assert command.agent == AGENT
    assert AGENT in COMMANDS[command.kind][0]
    assert from_json(ServingPolicy, command.body) == WANTED
    assert command.reason == "digits: falls back to v1.0.0, 3 tries, hedged, no breakers"
    assert policy_command(ServingPolicy("digits", max_attempts=1), VIEW, 5).reason == (
        "digits: no fallback, 1 try, not hedged, breakers"
    )
    assert policy_command(WANTED, VIEW, 9).command_id == command.command_id
    later = with_entry(VIEW, "serving/digits", ServingPolicy("digits"))
    assert policy_command(WANTED, later, 5).expected_version == 4
    assert policy_command(WANTED, later, 5).command_id != command.command_id


def test_a_policys_reason_says_what_is_promised() -> None:
    wanted = ServingPolicy("digits", slo=Slo(250, 10_000, 1_000))
    assert policy_command(wanted, VIEW, 5).reason == (
        "digits: no fallback, 2 tries, not hedged, breakers, SLO 99 % within 250 ms, errors up to 0.1 %"
    )


def test_an_slo_is_changed_in_what_is_named() -> None:
    both = Slo(250, 1_000, 2_000)
    assert changed_slo(None, 250) == Slo(250, 10_000)
    assert changed_slo(None, 250, 0.99999) == Slo(250, 10)
    assert changed_slo(None, None, None, 0.1) == Slo(0, 0, 100_000)
    assert changed_slo(both, 100) == Slo(100, 1_000, 2_000)
    assert changed_slo(both, None, 0.95) == Slo(250, 50_000, 2_000)
    assert changed_slo(both, None, None, 0.0) == Slo(250, 1_000)
    assert changed_slo(both, 0) == Slo(0, 0, 2_000)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((None, 0.99), "a share of answers in time needs a latency target"),
        ((0,), "an SLO needs a latency target, an error target, or both"),
        ((90,), "the nearest latency target is 80 or 100 ms"),
        ((250, 1.0), "the share of answers in time is 0.9 to 0.99999, not 1"),
        ((None, None, 1e-9), "the share of errors is 0.00001 to 0.1, not 1e-06"),
    ],
)
def test_an_slo_that_cannot_be_judged_is_a_sentence(flags: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        changed_slo(None, *flags)  # type: ignore[arg-type]


def test_an_activations_command() -> None:
    view = with_entry(VIEW, "active/digits", ActiveVersion("digits", "v1.0.0"))
    command = activation_command("digits", "v2.0.0", view, 5)
    assert (command.key, command.kind, command.expected_version) == ("active/digits", "ActivateVersion", 4)
    assert AGENT in COMMANDS[command.kind][0]
    assert from_json(ActiveVersion, command.body) == ActiveVersion("digits", "v2.0.0")
    assert command.reason == "digits is to be served by v2.0.0 instead of v1.0.0"


def test_what_was_refused_before_is_asked_under_another_id() -> None:
    first = policy_command(WANTED, VIEW, 5)
    refused = Rejection(first.command_id, "unknown_version", "digits has no version v1.0.0.")
    view = with_entry(VIEW, f"rejections/{first.command_id}", refused)
    assert policy_command(WANTED, view, 5).command_id != first.command_id
