"""Cutting collected rows into frames."""

from __future__ import annotations

from dataclasses import replace

from streams.columns import Columns, num_rows
from streams.frame_builder import FrameBuilder
from tests.support.frames import TOPIC_ID, T, row, with_blob


def test_frames_are_cut_by_their_tensor_bytes() -> None:
    builder = FrameBuilder(TOPIC_ID, 0, max_bytes=1 << 20)
    for offset in range(5):
        builder.add(row(offset, width=100_000))  # 400 kB each
    frames = builder.build(10, T, 0)
    assert [num_rows(each) for each in frames] == [2, 2, 1]
    assert [each.frame_id for each in frames] == [10, 11, 12]
    assert [offset for each in frames for offset in Columns.of(each).offsets.tolist()] == [0, 1, 2, 3, 4]
    assert builder.build(13, T, 0) == []


def test_a_row_above_the_limit_is_a_frame_by_itself() -> None:
    builder = FrameBuilder(TOPIC_ID, 0, max_bytes=1 << 20)
    for offset, width in ((0, 2), (1, 400_000), (2, 2)):
        builder.add(row(offset, width=width))
    assert [Columns.of(each).offsets.tolist() for each in builder.build(0, T, 0)] == [[0], [1], [2]]


def test_a_row_with_a_blob_is_a_segment_of_its_own_and_weighs_nothing() -> None:
    builder = FrameBuilder(TOPIC_ID, 0, max_bytes=1 << 20)
    rows = [with_blob(row(at, width=400_000)) if at % 2 else row(at) for at in range(6)]
    same = rows[1].blob
    rows[3] = replace(rows[1], offset=3)  # the same blob twice is two rows of two segments
    for each in rows:
        builder.add(each)
    (built,) = builder.build(0, T, 0)
    found = [(segment.num_rows, segment.blob) for segment in built.segments]
    assert found == [(3, None), (1, same), (1, same), (1, rows[5].blob)]
    assert [block.data for segment in built.segments[1:] for block in segment.inputs] == [b"", b"", b""]
    assert Columns.of(built).offsets.tolist() == [0, 2, 4, 1, 3, 5]
