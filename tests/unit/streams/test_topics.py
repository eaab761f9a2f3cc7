"""The table of topics keeps what the ledger and the handoffs rest on."""

from __future__ import annotations

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
