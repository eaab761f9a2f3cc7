"""The command that sets a shadow: for the version that stands, and another one after each change."""

from __future__ import annotations

from agents.orchestrator import COMMANDS
from infra.memory_command import AGENT
from infra.shadow_control import _planned, shadow_command
from schemas.shadow import Shadow, ShadowPolicy
from streams.canonical import from_json
from tests.support.frames import MODEL, memory
from tests.support.shadowed import SHADOWING, shadowed
from tests.unit.infra.test_serving_control import with_entry

VIEW = memory(MODEL)
WANTED = ShadowPolicy("digits", SHADOWING, 10)


def test_the_command_says_what_is_wanted_and_is_the_same_twice() -> None:
    command = shadow_command(WANTED, VIEW, 5)
    assert (command.key, command.kind, command.expected_version) == ("shadow/digits", "SetShadow", 0)
    assert command.agent == AGENT
    assert AGENT in COMMANDS[command.kind][0]
    assert from_json(ShadowPolicy, command.body) == WANTED
    assert command.reason == "10 % of digits's rows are also run by v1.1.0, which answers none"
    assert shadow_command(WANTED, VIEW, 9).command_id == command.command_id
    off = shadow_command(ShadowPolicy("digits", "", 0), VIEW, 5)
    assert off.reason == "digits is shadowed no more"
    later = with_entry(VIEW, "shadow/digits", ShadowPolicy("digits", "", 0))
    assert shadow_command(WANTED, later, 5).command_id != command.command_id


def test_what_the_plan_says() -> None:
    assert _planned(shadowed(30), "digits") == Shadow(SHADOWING, 30)
    assert _planned(VIEW, "digits") is None
