"""Noted decisions beside memory as it stood: folded once, in its order; what differs, is broken or unknown is told."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from infra.log_reader import TypedRecord
from infra.routing_replay import Rerouted, rerouted, row
from schemas.decision import RoutingDecision
from schemas.memory import MemoryEvent
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.memory_fold import StoredEvent, at_sequence
from streams.memory_view import MemoryView
from tests.support.frames import T, frame, plan
from tests.support.frames import row as request
from tests.unit.agents.test_routing_replay import decision

CODEC = Codec(SchemaIds.local())


def history(*lanes: int) -> list[StoredEvent]:
    """Events that move the plan of ``digits`` from lane to lane."""
    events: list[StoredEvent] = []
    for number, lane in enumerate(lanes, start=1):
        body = to_json(plan("digits", ("v1.0.0", 100), lane=lane))
        before = events[-1].value_hash if events else bytes(32)
        event = MemoryEvent(
            number, before, f"c{number}", "planner", "PlanMadeEffective", "plan/digits", number, body, "", (), T
        )
        events.append(StoredEvent.of(event, CODEC.encode("memory.events", event)))
    return events


EVENTS = history(0, 1, 2)


def kept(offset: int, sequence: int, **changes: Any) -> TypedRecord:
    """A decision that was noted when memory stood at a sequence."""
    view: MemoryView = at_sequence(EVENTS, sequence)
    found = decision(frame([request(offset)]), view)
    assert found is not None
    return TypedRecord(offset, 0, replace(found[0], **changes))


def compared(*noted: TypedRecord) -> Rerouted:
    return rerouted(list(noted), EVENTS, CODEC, time.monotonic())


def test_each_decision_meets_memory_as_it_stood_whatever_their_order() -> None:
    found = compared(kept(1, 3), kept(2, 1), kept(3, 2), kept(4, 3))
    assert (found.num_decisions, found.num_rows, found.num_differences, found.first) == (4, 4, 0, None)
    assert (row(found)["differences"], row(found)["first_difference"], row(found)["notes"]) == (0, None, [])


def test_the_first_difference_by_offset_is_named() -> None:
    found = compared(kept(7, 1, outcome=bytes(32)), kept(5, 3, outcome=bytes(32)), kept(6, 2))
    assert found.num_differences == 2
    shown = row(found)
    assert (shown["differences"], shown["first_difference"]) == (2, 5)
    assert "at offset 5 (frame 7 of partition 1, memory 3)" in shown["notes"][0]


def test_a_note_that_cannot_be_read_is_a_difference() -> None:
    found = compared(kept(1, 1), kept(2, 1, frame=b"nothing"))
    assert (found.num_decisions, [offset for offset, _ in found.broken]) == (1, [2])
    shown = row(found)
    assert (shown["differences"], shown["first_difference"]) == (1, 2)
    assert "the note at offset 2 cannot be read" in shown["notes"][0]


def test_decisions_of_a_memory_that_is_not_there_are_passed_over() -> None:
    found = compared(kept(1, 1), kept(2, 1, memory_sequence=9))
    assert (found.num_decisions, found.num_passed) == (1, 1)
    assert "1 decisions were taken by a memory that is not there" in row(found)["notes"][0]


def test_where_nothing_was_noted_the_setting_is_named() -> None:
    for nothing in (compared(), None):
        assert "decision_sample" in row(nothing)["notes"][0]


def test_records_are_what_the_topic_holds() -> None:
    record = kept(1, 1).record
    assert isinstance(record, RoutingDecision)
    assert CODEC.decode("inference.decisions", CODEC.encode("inference.decisions", record)) == record
