"""Which scaling policy stands, and the command that changes it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from agents.orchestrator import COMMANDS
from infra.memory_command import AGENT
from infra.scaling_control import policy_command, standing
from schemas.memory import MemoryEntry
from schemas.scaling import ScalingPolicy
from streams.canonical import from_json, to_json
from tests.support.frames import MODEL, memory

VIEW = memory(MODEL)
WANTED = ScalingPolicy("executors", 1, 4, downscale_delay_s=90)
ENTRY = MemoryEntry("scaling/executors", 4, 41, to_json(WANTED), 5)
LATER = replace(VIEW, sequence=41, entries=MappingProxyType({**VIEW.entries, ENTRY.key: ENTRY}))


def test_without_a_policy_there_are_the_defaults() -> None:
    assert standing(VIEW) == ScalingPolicy("executors")
    assert standing(LATER) == WANTED


def test_its_command_is_for_the_version_that_stands_and_the_same_twice() -> None:
    command = policy_command(WANTED, VIEW, 5)
    assert (command.key, command.kind, command.expected_version) == ("scaling/executors", "SetScalingPolicy", 0)
    assert AGENT in COMMANDS[command.kind][0]
    assert from_json(ScalingPolicy, command.body) == WANTED
    assert command.reason == "executors: 1 to 4 replicas, each busy for 60 %, up after 2 s, down after 90 s"
    assert policy_command(WANTED, VIEW, 9).command_id == command.command_id
    assert policy_command(WANTED, LATER, 5).expected_version == 4
