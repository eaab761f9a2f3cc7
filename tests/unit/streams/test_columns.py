"""Frames are built, cut and taken apart without losing or mixing anything of a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frame import InferenceFrame, RowError
from streams.columns import (
    EXPIRED,
    Columns,
    block_array,
    end_rows,
    item_bytes,
    item_edges,
    items_array,
    num_rows,
    request_ids,
    routing_keys,
    segment_starts,
    take,
)
from streams.frame_builder import Row
from streams.tensors import encode_texts
from tests.support.frames import executed, frame, random_frame, row, with_blob


def rows_of(given_frame: InferenceFrame) -> list[dict[str, object]]:
    """Each row as plain values, with its model, its tensors and its error."""
    columns, starts = Columns.of(given_frame), segment_starts(given_frame)
    ids, keys, errors = request_ids(given_frame), routing_keys(given_frame), {e.row: e for e in given_frame.errors}
    found = []
    for number, segment in enumerate(given_frame.segments):
        item = 0
        for at in range(starts[number], starts[number + 1]):
            items = int(columns.row_items[at])
            tensors = {
                block.name: (block.datatype, block.item_shape, block_array(block)[item : item + items].tolist())
                for block in (*segment.inputs, *segment.outputs)
            }
            item += items
            error = errors.get(at)
            found.append(
                {
                    **{
                        name: int(getattr(columns, name)[at])
                        for name in columns.__dataclass_fields__
                        if "len" not in name
                    },
                    "tenant_index": given_frame.tenants[columns.tenant_index[at]],
                    "id": ids[at],
                    "key": keys[at],
                    "model": (segment.model, segment.version),
                    "tensors": tensors,
                    "blob": segment.blob,
                    "error": None if error is None else (error.code, error.message, error.retry_after_ms),
                }
            )
    return found


def test_a_frame_holds_what_its_rows_held() -> None:
    built = frame(
        [row(5, items=2, gap=3, routing_key="k", tenant="acme"), row(6, model="other"), row(7, request_id="é")]
    )
    assert num_rows(built) == 3
    assert [segment.model for segment in built.segments] == ["digits", "other"]
    by_offset = {each["offsets"]: each for each in rows_of(built)}
    assert by_offset[5]["tensors"] == {"x": ("FP32", (2,), [[5.0, 5.0], [5.0, 5.0]])}
    assert (by_offset[5]["gaps"], by_offset[5]["key"], by_offset[5]["tenant_index"]) == (3, b"k", "acme")
    assert (by_offset[7]["id"], by_offset[7]["model"]) == ("é".encode(), ("digits", ""))
    assert by_offset[6]["tensors"] == {"x": ("FP32", (2,), [[6.0, 6.0]])}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.data())
def test_take_keeps_exactly_the_chosen_rows(seed: int, size: int, data: st.DataObject) -> None:
    whole = random_frame(seed, size, blobs=True)
    chosen = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
    part = take(whole, np.array(chosen, np.int64))
    everything = rows_of(whole)
    assert rows_of(part) == [everything[at] for at in chosen]
    assert sum(segment.num_rows for segment in part.segments) == num_rows(part) == len(chosen)
    assert (part.frame_id, part.topic_id, part.partition) == (whole.frame_id, whole.topic_id, whole.partition)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=8, max_size=8))
def test_two_halves_hold_every_row_once(seed: int, left: list[bool]) -> None:
    whole = random_frame(seed, 8, blobs=True)
    mask = np.array(left)
    parts = [take(whole, np.flatnonzero(side)) for side in (mask, ~mask) if side.any()]
    joined = sorted(str(each) for part in parts for each in rows_of(part))
    assert joined == sorted(str(each) for each in rows_of(whole))


def test_take_keeps_the_digests_of_the_chosen_rows() -> None:
    digests = [bytes([at]) * 16 for at in range(4)]
    whole = replace(random_frame(3, 4), input_digests=b"".join(digests))
    assert take(whole, np.array([0, 3])).input_digests == digests[0] + digests[3]
    assert take(random_frame(3, 4), np.array([0, 3])).input_digests is None


def test_take_of_outputs_with_several_items_per_row() -> None:
    part = take(executed(3, items=2), np.array([1]))
    assert block_array(part.segments[0].outputs[0]).shape == (2, 3)


def test_end_rows_drops_tensors_and_keeps_identity() -> None:
    ended = end_rows(
        frame([row(1), row(2)]), EXPIRED, [RowError(0, "deadline_exceeded", "late"), RowError(1, "lost", "x")]
    )
    assert [each["statuses"] for each in rows_of(ended)] == [EXPIRED, EXPIRED]
    assert [each["error"] for each in rows_of(ended)] == [("deadline_exceeded", "late", 0), ("lost", "x", 0)]
    assert all(not segment.inputs and not segment.outputs for segment in ended.segments)
    assert request_ids(ended) == [b"r1", b"r2"]
    with_one = end_rows(frame([with_blob(row(1))]), EXPIRED, [RowError(0, "deadline_exceeded", "late")])
    assert with_one.segments[0].blob is None


def test_views_are_read_only() -> None:
    built = frame([row(1)])
    with pytest.raises(ValueError, match="read-only"):
        Columns.of(built).offsets[0] = 9
    assert item_bytes(built.segments[0].inputs[0]) == 8


def row_with_texts(offset: int, words: list[list[str]], free: int) -> Row:
    """A row of ``len(words)`` items: ``word`` BYTES [2], ``free`` FP16 [free, 3], which is empty if free is 0."""
    made, items = row(offset, items=len(words)), len(words)
    free_data = np.full((items, free, 3), offset, "<f2").tobytes()
    made.blocks = (
        ("word", "BYTES", (2,), encode_texts(np.array(words, object))),
        *made.blocks,
        ("free", "FP16", (free, 3), free_data),
    )
    return made


WORDS = st.lists(st.lists(st.text(max_size=4), min_size=2, max_size=2), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, st.integers(0, 1)), min_size=1, max_size=6), st.data())
def test_texts_and_empty_axes_are_cut_by_row(contents: list[tuple[list[list[str]], int]], data: st.DataObject) -> None:
    whole = frame([row_with_texts(at, *content) for at, content in enumerate(contents)])
    chosen = sorted(data.draw(st.sets(st.integers(0, len(contents) - 1), min_size=1)))
    part = take(whole, np.array(chosen, np.int64))
    columns, starts = Columns.of(part), segment_starts(part)
    for number, segment in enumerate(part.segments):
        rows = range(starts[number], starts[number + 1])
        total = sum(int(columns.row_items[at]) for at in rows)
        first = 0
        for at in rows:
            words, free = contents[columns.offsets[at]]
            word, x, empty = (items_array(block, first, len(words)) for block in segment.inputs)
            assert word.tolist() == words
            assert x.tolist() == [[columns.offsets[at]] * 2] * len(words)
            assert empty.shape == (len(words), free, 3)
            first += len(words)
        assert first == total
        for block in segment.inputs:
            edges = item_edges(block, total)
            assert (edges[0], edges[-1], len(edges)) == (0, len(block.data), total + 1)


def test_a_block_without_elements_is_an_array() -> None:
    (segment,) = frame([row_with_texts(3, [["a", "b"]], 0)]).segments
    assert block_array(segment.inputs[2]).shape == (0, 0, 3)
