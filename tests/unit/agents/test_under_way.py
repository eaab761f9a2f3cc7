"""The table of rows under way: by offset, each once, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.under_way import (
    COPY,
    DEADLINE_US,
    KEPT,
    LANE,
    MAX_ROWS,
    MODEL,
    NO_COPY,
    NO_ROWS,
    OFFSET,
    ROW,
    SENT_US,
    merged,
    num_bytes,
    rows_of,
)
from streams.frame_codec import decode_frame, encode_frame
from tests.support.frames import T, frame, row, with_blob

offsets = st.lists(st.integers(0, 60), max_size=30, unique=True)


def test_rows_of_the_wanted_models_and_none_with_a_blob() -> None:
    made = frame([row(7), row(8, model="other"), with_blob(row(9)), row(10, deadline_us=T + 5)])
    rows = rows_of(made, 3, 11, {"digits": 1}, T)
    assert rows[OFFSET].tolist() == [7, 10]
    assert rows[DEADLINE_US].tolist() == [T + 1_000_000, T + 5]
    assert rows[ROW].tolist() == [0, 1]  # rows stand in segment order
    for column, value in ((MODEL, 1), (LANE, 3), (KEPT, 11), (SENT_US, T), (COPY, NO_COPY)):
        assert rows[column].tolist() == [value] * 2
    assert rows_of(made, 3, 11, {"third": 1}, T).shape == NO_ROWS.shape


@given(offsets, offsets)
def test_merged_rows_stand_by_offset_and_the_first_of_an_offset_stays(first: list[int], second: list[int]) -> None:
    rows = NO_ROWS
    for number, group in enumerate((first, second)):
        if group:
            rows = merged(rows, rows_of(frame([row(at) for at in group]), 0, number, {"digits": 0}, T))
    assert rows[OFFSET].tolist() == sorted({*first, *second})
    assert all((kept == 0) == (offset in first) for kept, offset in zip(rows[KEPT], rows[OFFSET], strict=True))


def test_of_too_many_rows_the_highest_offsets_stay() -> None:
    rows = NO_ROWS
    for begin in range(0, MAX_ROWS + 1_000, 500):
        rows = merged(rows, rows_of(frame([row(at) for at in range(begin, begin + 500)]), 0, 0, {"digits": 0}, T))
    assert rows[OFFSET].tolist() == list(range(begin + 500 - MAX_ROWS, begin + 500))


def test_the_bytes_of_a_frame_are_those_of_its_tensors_and_more() -> None:
    small, large = frame([row(1)]), frame([row(1, width=1_000)])
    assert num_bytes(large) - num_bytes(small) == 4 * 998
    read = decode_frame(value := encode_frame(large), 0)
    assert num_bytes(read) == num_bytes(large) + len(value)
