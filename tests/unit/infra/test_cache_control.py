"""Which policy stands, and the command that changes it."""

from __future__ import annotations

from dataclasses import replace

from agents.orchestrator import COMMANDS
from infra.cache_control import KIND, CachedModel, cached_model_list, command_for, standing
from infra.memory_command import AGENT
from schemas.cache import CachePolicy
from streams.canonical import from_json
from tests.support.cached import POLICY
from tests.support.frames import MODEL, memory

LOTS = replace(MODEL, version="v2.0.0", deterministic=False)
VIEW = memory(replace(MODEL, model="letters"), MODEL, LOTS, POLICY)


def test_models_without_a_policy_are_listed_as_not_cached() -> None:
    assert cached_model_list(VIEW) == (
        CachedModel("digits", POLICY, ("v2.0.0",)),
        CachedModel("letters", CachePolicy("letters", False, 0, 3600), ()),
    )
    assert standing(VIEW, "letters") == CachePolicy("letters", False, 0, 3600)


def test_the_command_is_for_the_version_that_stands_and_the_same_twice() -> None:
    wanted = replace(POLICY, epoch=2)
    command = command_for(wanted, VIEW, 5)
    assert (command.key, command.expected_version, command.agent) == ("cache/digits", 1, AGENT)
    assert AGENT in COMMANDS[KIND][0]
    assert from_json(CachePolicy, command.body) == wanted
    assert command_for(wanted, VIEW, 9).command_id == command.command_id
    assert command_for(replace(wanted, epoch=3), VIEW, 5).command_id != command.command_id
    assert command_for(standing(VIEW, "letters"), VIEW, 5).expected_version == 0
