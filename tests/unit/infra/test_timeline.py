"""The timeline: one line per record, in the order of times; what changed nothing is quiet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.log_reader import TypedRecord
from infra.timeline import MEMORY, TELL, TOPICS, about, lines_of, row
from schemas.scaling import ScaleAction
from streams.topics import TOPICS as ALL_TOPICS
from tests.support.samples import SAMPLES

ACTION = ScaleAction("executors/1", "executors", "scale_up", 1, 2, "The queue grows.", 30)


def sample(cls: type) -> Any:
    return next(each for each in SAMPLES.values() if type(each) is cls)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_record_of_its_topics_can_be_told(topic: str) -> None:
    names = {cls.__name__: cls for cls in TELL}
    cls = names[ALL_TOPICS[topic].record or ""]
    (line,) = lines_of({topic: [TypedRecord(7, 0, sample(cls))]})
    assert (line.topic, line.place) == (topic, 7)
    assert all((line.who, line.what, line.subject, line.time_us))
    assert row(line)["record"].startswith(f"{topic} ")


def test_lines_stand_in_the_order_of_their_times() -> None:
    actions = [TypedRecord(at, 0, replace(ACTION, time_us=time)) for at, time in ((0, 50), (1, 10), (2, 30))]
    confirmed = lines_of({"control.scale-actions": actions})
    assert [line.time_us for line in confirmed] == [10, 30, 50]


def test_records_of_one_time_stand_in_the_order_of_topics_and_offsets() -> None:
    event = replace(sample(type_of(MEMORY)), time_us=30)
    lines = lines_of(
        {
            "control.scale-actions": [TypedRecord(4, 0, ACTION), TypedRecord(3, 0, replace(ACTION, pool="other"))],
            MEMORY: [TypedRecord(9, 0, event)],
        }
    )
    assert [(line.topic, line.place) for line in lines] == [
        (MEMORY, 9), ("control.scale-actions", 3), ("control.scale-actions", 4),
    ]  # fmt: skip


def type_of(topic: str) -> type:
    return next(cls for cls in TELL if cls.__name__ == ALL_TOPICS[topic].record)


def test_an_action_that_changes_nothing_is_quiet() -> None:
    held = replace(ACTION, decision="hold", target_replicas=1)
    lines = lines_of({"control.scale-actions": [TypedRecord(0, 0, held), TypedRecord(1, 0, ACTION)]})
    assert [line.is_quiet for line in lines] == [True, False]


@pytest.mark.parametrize(("name", "found"), [("digits", True), ("v1.0.0", True), ("dig", False), ("other", False)])
def test_a_line_is_about_what_its_subject_names(name: str, found: bool) -> None:
    (line,) = lines_of({"control.scale-actions": [TypedRecord(0, 0, ACTION)]})
    assert about(replace(line, subject="model/digits/v1.0.0"), name) is found


def test_what_an_agent_sent_again_is_one_line() -> None:
    lines = lines_of({"control.scale-actions": [TypedRecord(0, 0, ACTION), TypedRecord(1, 0, ACTION)]})
    assert [line.place for line in lines] == [0]
