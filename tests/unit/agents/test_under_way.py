"""The table of rows under way: by offset, each once, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.under_way import MAX_ROWS, NO_COPY, NO_ROWS, merged, num_bytes, rows_of
from tests.support.frames import T, frame, row, with_blob

offsets = st.lists(st.integers(0, 60), max_size=30, unique=True)


def test_rows_of_the_wanted_models_and_none_with_a_blob() -> None:
    made = frame([row(7), row(8, model="other"), with_blob(row(9)), row(10, deadline_us=T + 5)])
    rows = rows_of(made, 3, 11, {"digits": 1}, T)
    assert rows["offset"].tolist() == [7, 10]
    assert rows["deadline_us"].tolist() == [T + 1_000_000, T + 5]
    assert rows["row"].tolist() == [0, 1]  # rows stand in segment order
    for name, value in (("model", 1), ("lane", 3), ("kept", 11), ("sent_us", T), ("copy", NO_COPY)):
        assert rows[name].tolist() == [value] * 2
    assert len(rows_of(made, 3, 11, {"third": 1}, T)) == 0


@given(offsets, offsets)
def test_merged_rows_stand_by_offset_and_the_first_of_an_offset_stays(first: list[int], second: list[int]) -> None:
    rows = NO_ROWS
    for number, group in enumerate((first, second)):
        if group:
            rows = merged(rows, rows_of(frame([row(at) for at in group]), 0, number, {"digits": 0}, T))
    assert rows["offset"].tolist() == sorted({*first, *second})
    assert all((each["kept"] == 0) == (each["offset"] in first) for each in rows)


def test_of_too_many_rows_the_highest_offsets_stay() -> None:
    rows = NO_ROWS
    for begin in range(0, MAX_ROWS + 1_000, 500):
        rows = merged(rows, rows_of(frame([row(at) for at in range(begin, begin + 500)]), 0, 0, {"digits": 0}, T))
    assert rows["offset"].tolist() == list(range(begin + 500 - MAX_ROWS, begin + 500))


def test_the_bytes_of_a_frame_are_those_of_its_tensors_and_more() -> None:
    small, large = frame([row(1)]), frame([row(1, width=1_000)])
    assert num_bytes(large) - num_bytes(small) == 4 * 998
    assert num_bytes(small) > 0
