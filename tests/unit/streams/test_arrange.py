"""Segments and parts of them keep their rows, tensors, ids and errors, in the order that was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frame import InferenceFrame
from streams.arrange import Cut, arranged
from streams.columns import num_rows, segment_starts, take
from streams.frame_codec import decode_frame, encode_frame
from streams.splice import wire_of
from tests.support.frames import executed, frame, random_frame, row
from tests.unit.streams.test_columns import rows_of


def chosen(whole: InferenceFrame, cuts: list[Cut]) -> list[dict[str, object]]:
    """The rows that the cuts name, by hand."""
    everything, starts = rows_of(whole), segment_starts(whole)
    return [
        everything[starts[cut.segment] + at]
        for cut in cuts
        for at in (range(whole.segments[cut.segment].num_rows) if cut.rows is None else cut.rows)
    ]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.data())
def test_whole_segments_in_any_order(seed: int, size: int, data: st.DataObject) -> None:
    whole = random_frame(seed, size, blobs=True)
    numbers = data.draw(st.lists(st.integers(0, len(whole.segments) - 1), min_size=1, unique=True))
    cuts = [Cut(number) for number in numbers]
    part = arranged(whole, cuts)
    assert rows_of(part) == chosen(whole, cuts)
    assert [segment.model for segment in part.segments] == [whole.segments[number].model for number in numbers]
    assert sum(segment.num_rows for segment in part.segments) == num_rows(part)
    assert decode_frame(encode_frame(part), 0) == part


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.data())
def test_parts_of_segments_in_any_order(seed: int, size: int, data: st.DataObject) -> None:
    whole = random_frame(seed, size, blobs=True)
    cuts = []
    for number, segment in enumerate(whole.segments):
        if data.draw(st.booleans()):
            cuts.append(Cut(number))
            continue
        order = data.draw(st.permutations(range(segment.num_rows)))
        middle = data.draw(st.integers(0, segment.num_rows))
        cuts += [Cut(number, tuple(part)) for part in (order[:middle], order[middle:]) if part]
    part = arranged(whole, cuts)
    assert rows_of(part) == chosen(whole, cuts)
    assert num_rows(part) == num_rows(whole)
    assert decode_frame(encode_frame(part), 0) == part


@given(st.integers(0, 10_000), st.integers(1, 20), st.data())
def test_ascending_rows_are_what_take_takes(seed: int, size: int, data: st.DataObject) -> None:
    whole = random_frame(seed, size)
    starts = segment_starts(whole)
    cuts, rows = [], []
    for number, segment in enumerate(whole.segments):
        mine = sorted(data.draw(st.sets(st.integers(0, segment.num_rows - 1))))
        if mine:
            cuts.append(Cut(number, tuple(mine)))
            rows += [starts[number] + at for at in mine]
    if rows:
        assert arranged(whole, cuts) == take(whole, np.array(rows, np.int64))


def test_everything_in_its_place_is_the_frame_itself() -> None:
    read = decode_frame(encode_frame(frame([row(1), row(2, model="other")])), 0)
    assert arranged(read, [Cut(0), Cut(1)]) is read
    part = arranged(read, [Cut(1)])
    assert wire_of(part) is None
    assert wire_of(part.segments[0]) is not None


def test_outputs_go_with_their_rows() -> None:
    part = arranged(executed(3, items=2), [Cut(0, (2, 0))])
    assert [each["offsets"] for each in rows_of(part)] == [102, 100]
    assert len(part.segments[0].outputs[0].data) == 2 * 2 * 3 * 4


def test_digests_go_with_their_rows() -> None:
    digests = [bytes([at]) * 16 for at in range(4)]
    whole = replace(
        frame([row(0), row(1), row(2, model="other"), row(3, model="other")]), input_digests=b"".join(digests)
    )
    assert arranged(whole, [Cut(1), Cut(0)]).input_digests == b"".join([digests[2], digests[3], digests[0], digests[1]])
    assert arranged(whole, [Cut(1, (1,)), Cut(0, (1, 0))]).input_digests == digests[3] + digests[1] + digests[0]
    assert arranged(replace(whole, input_digests=None), [Cut(1), Cut(0, (1, 0))]).input_digests is None
