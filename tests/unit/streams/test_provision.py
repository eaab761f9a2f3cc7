"""What topics are made with, and how differences are said; the broker's part is in the integration tests."""

from __future__ import annotations

import pytest

from streams.provision import ALL, ProvisionError, differences, partition_count, topic_settings
from streams.topics import MAX_RECORD_BYTES, SCHEMAS_TOPIC, TOPICS


def test_the_schema_log_is_among_the_topics() -> None:
    assert set(ALL) == {*TOPICS, SCHEMAS_TOPIC}
    assert topic_settings(ALL[SCHEMAS_TOPIC])["cleanup.policy"] == "compact"
    assert ALL[SCHEMAS_TOPIC].full_name == "_schemas"


@pytest.mark.parametrize("name", sorted(ALL))
def test_settings_the_ledger_rests_on(name: str) -> None:
    settings = topic_settings(ALL[name])
    assert settings["unclean.leader.election.enable"] == "false"
    assert int(settings["max.message.bytes"]) > MAX_RECORD_BYTES
    assert (settings["message.timestamp.type"] == "LogAppendTime") == (
        name in ("inference.requests", "inference.results")
    )
    assert ("min.cleanable.dirty.ratio" in settings) == (settings["cleanup.policy"] == "compact")


def test_results_are_kept_longer_than_requests_and_neither_is_compacted() -> None:
    requests, results = TOPICS["inference.requests"], TOPICS["inference.results"]
    assert requests.cleanup == results.cleanup == "delete"
    assert results.retention_ms > requests.retention_ms


def test_partitions_come_from_the_two_settings_or_the_table() -> None:
    assert partition_count(TOPICS["inference.executed"], 3, 5) == 3
    assert partition_count(TOPICS["inference.routed"], 3, 5) == 5
    assert partition_count(TOPICS["memory.events"], 3, 5) == 1


def test_differences_are_sentences() -> None:
    found = differences("t", {"a": "1", "b": "2"}, {"a": "1", "b": "3"}, (2, 4))
    assert found == [
        "topic t has 4 partitions, the settings ask for 2; none can be taken away: set partitions to 4",
        "topic t has b = 3, this program needs 2",
    ]
    assert str(ProvisionError(tuple(found))) == "; ".join(found)
    assert differences("t", {"a": "1"}, {"a": "1", "z": "9"}, (2, 2)) == []
