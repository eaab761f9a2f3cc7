"""The table of topics keeps what the ledger and the handoffs rest on."""

from __future__ import annotations

import pytest

from agents.monitor import MONITOR
from agents.orchestrator import ORCHESTRATOR
from agents.planner import PLANNER
from agents.researcher import RESEARCHER
from agents.reviewer import REVIEWER
from agents.router import ROUTER
from agents.scaler import SCALER
from agents.validations import VALIDATIONS
from agents.validator import VALIDATOR
from streams.agent import AgentSpec
from streams.topics import JOURNALED_AGENTS, SCHEMAS_TOPIC, TOPICS, full_name


def test_names() -> None:
    assert full_name("inference.requests") == "isos.inference.requests.v1"
    assert full_name(SCHEMAS_TOPIC) == "_schemas"
    assert TOPICS["memory.state"].full_name == "isos.memory.state.v1"


def test_the_stages_around_a_ledger_are_partitioned_alike() -> None:
    for name in ("requests", "admitted", "executed", "results", "ledger-checkpoints"):
        assert TOPICS[f"inference.{name}"].partitions == "requests"
    assert TOPICS["inference.routed"].partitions == "lanes"


def test_what_has_one_writer_is_fenced() -> None:
    fenced = {name for name, topic in TOPICS.items() if topic.fenced}
    assert fenced == {
        *("inference.results", "inference.ledger-checkpoints", "control.journal", "memory.events", "memory.state"),
        "audit.log",
    }
    assert TOPICS["inference.results"].writers == ("validator",)
    assert TOPICS["control.journal"].partitions == len(JOURNALED_AGENTS)


def test_memory_is_kept_for_ever() -> None:
    assert TOPICS["memory.events"].retention_ms == -1
    assert TOPICS["memory.events"].cleanup == "delete"
    assert TOPICS["memory.state"].cleanup == "compact"


def test_middle_topics_cannot_fill_a_disk() -> None:
    for name in ("admitted", "routed", "executed"):
        assert TOPICS[f"inference.{name}"].retention_bytes > 0


@pytest.mark.parametrize(
    "spec",
    [MONITOR, ORCHESTRATOR, PLANNER, RESEARCHER, REVIEWER, ROUTER, SCALER, VALIDATIONS, VALIDATOR],
    ids=lambda spec: spec.name,
)
def test_agents_read_and_write_only_what_the_table_lets_them(spec: AgentSpec) -> None:
    def beyond(names: tuple[str, ...], allowed: str) -> list[str]:
        may = {name: getattr(TOPICS[name], allowed) for name in names}
        return [name for name, who in may.items() if spec.name not in who and not who[0].startswith("every")]

    assert beyond((*spec.consumes, *spec.watches), "readers") == []
    assert beyond(spec.emits, "writers") == []
