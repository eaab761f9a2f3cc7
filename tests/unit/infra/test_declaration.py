"""What a start says of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.orchestrator import COMMANDS, decide
from agents.verdict import State
from infra.declaration import AGENT, KIND, declaration, environment_of
from infra.settings import load_settings
from schemas.environment import Environment
from tests.support.control import at


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sandbox", Environment()),
        ("staging", Environment("staging", development_policy=False)),
        ("production", Environment("production", development_policy=False)),
    ],
)
def test_only_a_sandbox_approves_by_itself(tmp_path: Path, name: str, expected: Environment) -> None:
    assert environment_of(load_settings(data_dir=tmp_path, environment=name)) == expected


def test_the_orchestrator_takes_it_and_every_start_sends_its_own() -> None:
    assert AGENT in COMMANDS[KIND][0]
    first, second = declaration(Environment(), 1), declaration(Environment(), 2)
    assert first.command_id != second.command_id
    state, effects = decide(State(), at(first), None)
    assert [effect.record.kind for effect in effects] == ["EnvironmentSet"]
    assert decide(state, at(second), None)[1] == ()
