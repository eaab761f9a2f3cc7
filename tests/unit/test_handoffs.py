"""Rules of handing over that need no broker to be broken: who may write where, and what is refused by its reader.

Those that take a whole stack are in ``tests/integration/test_handoffs.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.orchestrator import ORCHESTRATOR, decide
from agents.planner import PLANNER
from agents.verdict import State
from infra.control_plane import control_specs
from infra.settings import load_settings
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import Plan, PlanProposal, VersionWeight
from schemas.telemetry import Alert
from streams.agent import AgentSpec, Event, Publish
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.control.journal import TICK_INPUT, JournaledAgent
from streams.errors import InvariantError
from streams.topics import TOPICS
from tests.support.control import HERE, SECOND, at, model_version

ANYBODY = ("every agent", "every process", "everybody")
CODEC = Codec(SchemaIds.local())


def specs() -> tuple[AgentSpec, ...]:
    return (ORCHESTRATOR, *control_specs(load_settings()))


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_an_agent_emits_only_where_it_is_a_writer(spec: AgentSpec) -> None:
    wrong = [
        topic
        for topic in spec.emits
        if spec.name not in TOPICS[topic].writers and not set(TOPICS[topic].writers) & set(ANYBODY)
    ]
    assert wrong == []


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_an_agent_reads_only_what_is_there_for_it(spec: AgentSpec) -> None:
    wrong = [
        topic
        for topic in (*spec.consumes, *spec.watches)
        if spec.name not in TOPICS[topic].readers and not set(TOPICS[topic].readers) & set(ANYBODY)
    ]
    assert wrong == []


def test_memory_and_results_have_one_writer_behind_a_fence() -> None:
    assert [spec.name for spec in specs() if "memory.events" in spec.emits] == ["orchestrator"]
    for topic, writer in (
        ("memory.events", "orchestrator"),
        ("memory.state", "orchestrator"),
        ("inference.results", "validator"),
        ("inference.ledger-checkpoints", "validator"),
    ):
        assert (TOPICS[topic].writers, TOPICS[topic].fenced) == ((writer,), True)


def test_an_agent_that_writes_elsewhere_ends_before_it_does() -> None:
    """What is not among its topics is a defect, found where effects are journaled, before anything is sent."""
    event = MemoryEvent(1, bytes(32), "c", "planner", "PlanMadeEffective", "plan/a", 1, "{}", "", (), SECOND)
    for topic, record in (("memory.events", event), ("inference.results", b"")):

        def rogue(state: object, given: Event, params: object, to: str = topic, what: object = record) -> object:
            return state, (Publish(to, b"k", what),)

        agent = JournaledAgent(replace(PLANNER, decide=rogue), CODEC)  # type: ignore[arg-type]
        with pytest.raises(InvariantError, match="may not emit"):
            agent.step(TICK_INPUT, SECOND)


def refused(state: State, record: object) -> str:
    """The code with which the Orchestrator refuses it."""
    _, effects = decide(state, at(record), ORCHESTRATOR.params)
    event = effects[0].record
    assert event.kind == "CommandRejected"
    return str(event.body)


def standing() -> State:
    facts = model_version()
    command = MemoryCommand("r", "cli", "RegisterModel", "model/digits/v1.0.0", 0, to_json(facts), "", (), 1)
    state, _ = decide(State(), at(command), ORCHESTRATOR.params)
    return state


PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 8, 30_000)


def test_nobody_plans_but_the_planner_and_nobody_by_old_memory() -> None:
    state = standing()
    body = to_json(PLAN)
    for agent in ("router", "scaler", "cli", "monitor"):
        command = MemoryCommand(f"by-{agent}", agent, "ProposePlan", "plan/digits", 0, body, "", (), 1)
        assert "not_permitted" in refused(state, command)
    assert "version_mismatch" in refused(state, PlanProposal("p1", PLAN, 4, "stale", (), 1))


def test_an_alert_of_nobody_changes_an_incident_and_nothing_else() -> None:
    state = standing()
    alert = Alert("a1", "made_up", "digits", "critical", "", "{}", False, SECOND, (HERE,))
    after, effects = decide(state, at(alert), ORCHESTRATOR.params)
    assert [each.record.key for each in effects if each.topic == "memory.events"] == ["incident/a1"]
    assert {key: value for key, value in after.values.items() if key != "incident/a1"} == state.values
