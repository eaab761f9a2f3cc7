"""Notes of decisions: in their order, as records that can be read, and a bounded number of them."""

from __future__ import annotations

from agents.router import RouterParams
from streams.codec import Codec, SchemaIds
from streams.decision_notes import ADMITTED, MOST_HELD, TOPIC, DecisionNotes
from streams.frame_effects import NoteDecision
from tests.support.frames import T, frame, row

CODEC = Codec(SchemaIds.local())
PARAMS = RouterParams(num_lanes=3, hold_us=9, num_slow_lanes=1)


def note(number: int) -> NoteDecision:
    return NoteDecision(frame([row(number)]), T + number, 41, (), bytes(32))


def test_notes_are_told_once_with_the_parameters() -> None:
    notes = DecisionNotes(5, CODEC, PARAMS)
    notes.add(note(1))
    notes.add(note(2))
    told = notes.close(T)
    assert [topic for topic, _ in told] == [TOPIC, TOPIC]
    records = [record for _, record in told]
    assert [record.decided_us for record in records] == [T + 1, T + 2]
    first = records[0]
    assert (first.router, first.partition, first.num_lanes, first.num_slow_lanes, first.hold_us) == (5, 1, 3, 1, 9)
    assert CODEC.decode(ADMITTED, first.frame) == note(1).frame
    assert CODEC.decode(TOPIC, CODEC.encode(TOPIC, first)) == first
    assert notes.close(T) == []


def test_more_notes_than_fit_are_counted_and_lost() -> None:
    notes = DecisionNotes(0, CODEC, PARAMS)
    for number in range(MOST_HELD + 3):
        notes.add(note(number))
    assert notes.num_lost == 3
    assert len(notes.close(T)) == MOST_HELD
