"""Which decisions of the Router are noted, and what a note holds: no tensors, nothing that came from the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.router import RouterParams, RouterState, decide, lookups
from agents.routing_decision import DEFERRED, is_sampled, outcome_of, rows_of, stripped
from schemas.coordinate import RecordCoordinate
from schemas.decision import RoutedRows
from schemas.frame import InferenceFrame
from streams.agent import TICK, Event
from streams.frame_effects import NoteDecision, SendFrame
from streams.memory_view import MemoryView
from tests.support.cached import POLICY, digests_of, entry, known
from tests.support.frames import MODEL, T, frame, memory, plan, random_frame, row
from tests.unit.agents.test_router import PLANNED

EVERY = RouterParams(num_lanes=4, sample_every=1)
HERE = RecordCoordinate("t", 1, 0)


def noted(made: InferenceFrame, view: MemoryView = PLANNED, **event: Any) -> tuple[list[Any], list[NoteDecision]]:
    """What is sent or deferred, and what is noted."""
    _, effects = decide(RouterState(), Event(made, HERE, T + 5, answers=view, **event), EVERY)
    notes = [each for each in effects if isinstance(each, NoteDecision)]
    return [each for each in effects if not isinstance(each, NoteDecision)], notes


@given(seed=st.integers(0, 10_000))
def test_a_note_is_of_the_same_rows_without_their_tensors(seed: int) -> None:
    made = random_frame(seed)
    sent, notes = noted(made)
    pending = made.statuses.count(0)
    if not pending:
        assert notes == []
        return
    (note,) = notes
    assert len(note.frame.statuses) == pending
    assert all(not segment.inputs and segment.blob is None for segment in note.frame.segments)
    assert (note.decided_us, note.memory_sequence) == (T + 5, PLANNED.sequence)
    assert sum(rows.num_rows for rows in note.rows) == pending
    assert note.outcome == outcome_of([each for each in sent if each.frame.statuses.count(3) == 0])


def test_ways_are_named_and_rows_that_wait_too() -> None:
    made = frame([row(1), row(2, model="other"), row(3), row(4, model="unplanned")])
    _, (note,) = noted(made)
    assert sorted(note.rows, key=lambda rows: rows.partition) == [
        RoutedRows(DEFERRED, -1, "unplanned", "", 1),
        RoutedRows("inference.routed", 1, "digits", "v1.0.0", 2),
        RoutedRows("inference.routed", 2, "other", "v3.0.0", 1),
    ]


@pytest.mark.parametrize(("every", "number", "sampled"), [(0, 0, False), (3, 6, True), (3, 7, False), (1, 5, True)])
def test_the_frame_s_number_says_whether_it_is_noted(every: int, number: int, sampled: bool) -> None:
    made = replace(frame([row(1)]), frame_id=number)
    assert is_sampled(made, Event(made, HERE, T), every) is sampled


def test_frames_that_come_back_are_not_noted() -> None:
    made = frame([row(1)])
    assert not is_sampled(replace(made, attempt=1), Event(made, HERE, T), 1)
    assert not is_sampled(made, Event(made, TICK, T), 1)


CACHED = memory(MODEL, plan("digits", ("v1.0.0", 100), lane=1), POLICY, sequence=41)


def test_rows_that_the_cache_answered_are_not_in_a_note() -> None:
    made = frame([row(1), row(2)])
    looked = lookups(made, CACHED, EVERY)
    assert looked is not None
    hit = looked.asked[0].fields[0]
    sent, (note,) = noted(made, CACHED, looked_up=known(looked, {hit: entry()}))
    assert [each.topic for each in sent] == ["inference.executed", "inference.routed"]
    assert len(note.frame.statuses) == 1
    assert note.frame.input_digests == digests_of(made)[16:]
    assert note.outcome == outcome_of(sent[1:])
    assert rows_of(sent[1:]) == note.rows


def test_where_the_cache_answered_every_row_there_is_nothing_to_note() -> None:
    made = frame([row(1)])
    looked = lookups(made, CACHED, EVERY)
    assert looked is not None
    sent, notes = noted(made, CACHED, looked_up=known(looked, {looked.asked[0].fields[0]: entry()}))
    assert len(sent) == 1
    assert notes == []


def test_an_outcome_does_not_depend_on_tensors_but_on_everything_else() -> None:
    made = frame([row(1), row(2)])
    sent = SendFrame("inference.routed", 1, made)
    assert outcome_of([sent]) == outcome_of([SendFrame("inference.routed", 1, stripped(made))])
    others = [
        SendFrame("inference.routed", 2, made),
        SendFrame("inference.executed", 1, made),
        SendFrame("inference.routed", 1, replace(made, memory_sequence=9)),
        SendFrame("inference.routed", 1, frame([row(1), row(3)])),
    ]
    assert outcome_of([sent]) not in {outcome_of([other]) for other in others}
