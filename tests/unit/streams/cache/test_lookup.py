"""Rows that are answered by the cache: each once, as its own coordinate, with the answer of its own input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import InferenceFrame
from streams.cache import lookup as module
from streams.cache.lookup import Asked, LookedUp, Lookup, answered
from streams.cache.values import Entry
from streams.columns import OK, Columns, block_array, num_rows, request_ids, segment_starts
from tests.support.cached import MADE, entry
from tests.support.frames import MODEL, T, frame, memory, row

VIEW = memory(MODEL, replace(MODEL, model="letters"), sequence=41)


def looked_up(built: InferenceFrame, entries: list[Entry | None]) -> LookedUp:
    """One answer or none per row."""
    starts, asked = segment_starts(built), []
    for number, segment in enumerate(built.segments):
        rows = tuple(range(segment.num_rows))
        asked.append(Asked(number, segment.model, "v1.0.0", rows, tuple(bytes(32) for _ in rows), 60))
    parts = [tuple(entries[starts[at] : starts[at + 1]]) for at in range(len(asked))]
    return LookedUp(Lookup(tuple(asked), bytes(16 * num_rows(built))), tuple(parts))


def outputs(frames: list[InferenceFrame]) -> dict[int, float]:
    """First output value by offset."""
    found: dict[int, float] = {}
    for each in frames:
        columns, starts = Columns.of(each), segment_starts(each)
        for number, segment in enumerate(each.segments):
            rows = slice(starts[number], starts[number + 1])
            firsts = np.cumsum([0, *columns.row_items[rows].tolist()])[:-1]
            values = block_array(segment.outputs[0])[firsts, 0].tolist()
            found |= dict(zip(columns.offsets[rows].tolist(), values, strict=True))
    return found


def test_answered_rows_are_executed_rows_of_their_own_coordinate() -> None:
    built = frame([row(7, gap=2, tenant="acme"), row(8), row(9)])
    hits, (made,) = answered(built, looked_up(built, [entry(1.0), None, entry(3.0)]), VIEW, np.zeros(3, bool), T + 5)
    assert hits.tolist() == [True, False, True]
    (segment,) = made.segments
    assert (segment.model, segment.version, segment.cached, segment.num_rows) == ("digits", "v1.0.0", True, 2)
    assert (segment.inputs, segment.model_digest, segment.batch_id) == ((), MODEL.digest, 0)
    assert (made.memory_sequence, made.routed_us, made.executed_us, made.input_digests) == (41, T + 5, 0, None)
    columns = Columns.of(made)
    assert (columns.offsets.tolist(), columns.gaps.tolist()) == ([7, 9], [2, 0])
    assert (columns.statuses.tolist(), request_ids(made)) == ([OK, OK], [b"r7", b"r9"])
    assert outputs([made]) == {7: 1.0, 9: 3.0}


def test_answers_of_other_executors_are_segments_of_their_own() -> None:
    other = replace(MADE, executor="executor-8")
    built = frame([row(1), row(2), row(3)])
    given_entries = [entry(1.0), entry(2.0, made=other), entry(3.0)]
    _, (made,) = answered(built, looked_up(built, list(given_entries)), VIEW, np.zeros(3, bool), T)
    assert [(segment.executor[-1], segment.num_rows) for segment in made.segments] == [("0", 2), ("8", 1)]
    assert outputs([made]) == {1: 1.0, 2: 2.0, 3: 3.0}


def test_nobody_is_answered_late_or_by_another_shape_or_version() -> None:
    built = frame([row(1), row(2, items=2), row(3, model="strange"), row(4)])
    late = np.array([False, False, False, True])
    assert [segment.num_rows for segment in built.segments] == [3, 1]
    late = np.array([False, False, True, False])  # offset 4 stands third: rows of a model stand together
    hits, frames = answered(built, looked_up(built, [entry(1.0)] * 4), VIEW, late, T)
    assert hits.tolist() == [True, False, False, False]
    assert outputs(frames) == {1: 1.0}


def test_an_answer_that_is_not_whole_or_of_another_signature_is_none() -> None:
    built = frame([row(at) for at in range(4)])
    other = replace(MADE, outputs=(("y", "FP32", (4,)),))
    entries = [replace(entry(), data=(bytes(8),)), entry(made=other), replace(entry(), items=2), entry(3.0)]
    hits, frames = answered(built, looked_up(built, list(entries)), VIEW, np.zeros(4, bool), T)
    assert hits.tolist() == [False, False, False, True]
    assert outputs(frames) == {3: 3.0}


def test_frames_of_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    built = frame([row(at) for at in range(10)])
    monkeypatch.setattr(module, "MAX_FRAME_BYTES", 3 * 12)
    _, frames = answered(built, looked_up(built, [entry(float(at)) for at in range(10)]), VIEW, np.zeros(10, bool), T)
    assert [num_rows(each) for each in frames] == [3, 3, 3, 1]
    assert outputs(frames) == {at: float(at) for at in range(10)}
    monkeypatch.setattr(module, "MAX_FRAME_BYTES", 1 << 20)
    monkeypatch.setattr(module, "MAX_FRAME_SEGMENTS", 4)
    apart: list[Entry | None] = [entry(float(at), made=replace(MADE, executor=str(at))) for at in range(10)]
    _, frames = answered(built, looked_up(built, apart), VIEW, np.zeros(10, bool), T)
    assert [len(each.segments) for each in frames] == [4, 4, 2]
    assert outputs(frames) == {at: float(at) for at in range(10)}


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=20))
def test_hits_and_the_others_are_all_rows_once(rows: list[tuple[bool, bool, int, int]]) -> None:
    built = frame(
        [
            row(at, model="letters" if letters else "digits", items=items)
            for at, (letters, _, items, _) in enumerate(rows)
        ]
    )
    offsets = Columns.of(built).offsets.tolist()
    entries = [
        entry(float(at), items=rows[at][2], made=replace(MADE, executor=str(rows[at][3]))) if rows[at][1] else None
        for at in offsets
    ]
    hits, frames = answered(built, looked_up(built, entries), VIEW, np.zeros(len(rows), bool), T)
    assert hits.tolist() == [each is not None for each in entries]
    assert outputs(frames) == {at: float(at) for at in offsets if rows[at][1]}
