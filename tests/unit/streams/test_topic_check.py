"""What is apart and what a fault says; the asking is in tests/integration/test_doctor.py."""

from __future__ import annotations

from streams.topic_check import TOGETHER, TopicCheck, TopicFault


def test_the_topics_of_a_partition_belong_together() -> None:
    assert set(TOGETHER) >= {"inference.requests", "inference.admitted", "inference.executed", "inference.results"}
    counts = dict.fromkeys(TOGETHER, 2)
    assert TopicCheck((), (), {**counts, "control.plans": 1}).apart == {}
    assert TopicCheck((), (), {**counts, "inference.results": 4}).apart == {**counts, "inference.results": 4}


def test_a_fault_names_topic_setting_found_and_expected() -> None:
    fault = TopicFault("inference.dlq", "retention.ms", "1", "2")
    assert str(fault) == "isos.inference.dlq.v1 has retention.ms = 1, expected is 2"
