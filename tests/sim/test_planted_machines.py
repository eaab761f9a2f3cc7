"""The state machines find what they are there for: bugs planted in the agents that they run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

import agents.orchestrator
import agents.rollback
import infra.memory_age
from tests.sim.planted_control import CONTROL, notes_what_stands
from tests.sim.planting import Planted, plant
from tests.sim.test_memory_machine import MemoryMachine
from tests.sim.test_review_machine import ReviewMachine
from tests.sim.test_rollback_machine import RollbackMachine
from tests.sim.test_scale_machine import ScaleMachine
from tests.sim.test_silence_machine import SilenceMachine

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

LOOKED_FOR = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_judge = agents.orchestrator.judge
_age: Any = infra.memory_age
_hear, _look = _age.hear, _age.look


def _takes_any_version(state: Any, command: Any) -> Any:
    return _judge(state, replace(command, expected_version=-1))


def _believes_any_agent(state: Any, command: Any) -> Any:
    known = agents.orchestrator.COMMANDS.get(command.kind)
    return _judge(state, command if known is None else replace(command, agent=min(known[0])))


def _hears_a_standby_too(state: Any, sequence: int, now_us: int) -> Any:
    return _hear(state, max(sequence, 1), now_us)


def _never_slept(state: Any, sequence: int, now_us: int, params: Any) -> Any:
    return _look(state, sequence, now_us, replace(params, pause_us=10**15))


_MARK = agents.orchestrator.COMMANDS["MarkVersionGood"][0], notes_what_stands
NOTED = Planted(agents.orchestrator, "COMMANDS", {**agents.orchestrator.COMMANDS, "MarkVersionGood": _MARK}, ())  # type: ignore[arg-type]

FOUND: dict[str, tuple[type[RuleBasedStateMachine], Planted]] = {
    "a command of old memory is taken": (
        MemoryMachine,
        Planted(agents.orchestrator, "judge", _takes_any_version, ()),
    ),
    "whoever asks is permitted": (MemoryMachine, Planted(agents.orchestrator, "judge", _believes_any_agent, ())),
    "a roll-back comes right behind another": (
        RollbackMachine,
        Planted(agents.rollback, "COOLDOWN_US", 0, ()),  # type: ignore[arg-type]
    ),
    "a version that never proved itself is rolled back to": (
        RollbackMachine,
        CONTROL["a version that never proved itself is rolled back to"],
    ),
    "a policy that was never good is put back": (RollbackMachine, CONTROL["a policy that was never good is put back"]),
    "how a model is served now counts as good": (RollbackMachine, NOTED),
    "an approval is used again": (ReviewMachine, CONTROL["an approval is used again"]),
    "nobody checks who approved": (ReviewMachine, CONTROL["nobody checks who approved"]),
    "a stranger's revocation passes": (ReviewMachine, CONTROL["a stranger's revocation passes"]),
    "memory that does not change counts as silent": (
        SilenceMachine,
        Planted(infra.memory_age, "hear", lambda state, *_: state, ()),
    ),
    "a Router trusts what it knows for ever": (
        SilenceMachine,
        Planted(infra.memory_age, "look", lambda state, *_: (state, "fresh"), ()),
    ),
    "a standby counts as memory's writer": (
        SilenceMachine,
        Planted(infra.memory_age, "hear", _hears_a_standby_too, ()),
    ),
    "a Router takes its own sleep for memory's silence": (
        SilenceMachine,
        Planted(infra.memory_age, "look", _never_slept, ()),
    ),
    "replicas go up for ever": (ScaleMachine, CONTROL["replicas go up for ever"]),
}


@pytest.mark.parametrize("name", FOUND)
def test_planted_bug_is_found(name: str) -> None:
    machine, bug = FOUND[name]
    with plant(bug), pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=LOOKED_FOR)
