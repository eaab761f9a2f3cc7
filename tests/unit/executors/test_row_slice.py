"""Slices are cut without losing a row or moving an item."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executors.row_slice import RowSlice

rows = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=12)


def slice_of(columns: list[tuple[int, int, int]]) -> RowSlice:
    items, deadlines = [column[0] for column in columns], [column[1] for column in columns]
    return RowSlice("f", 2, 0, len(items), 0, sum(items), 5, 7, min(deadlines), items, deadlines)


def check(parts: list[RowSlice], columns: list[tuple[int, int, int]]) -> None:
    """The parts are the rows of the columns, each once, each with its own items."""
    parts = sorted(parts, key=lambda part: part.first_row)
    assert [row for part in parts for row in range(part.first_row, part.first_row + part.num_rows)] == list(
        range(len(columns))
    )
    for part in parts:
        mine = columns[part.first_row :][: part.num_rows]
        assert part.first_item == sum(column[0] for column in columns[: part.first_row])
        assert part.num_items == sum(column[0] for column in mine)
        assert part.earliest_us == min(column[1] for column in mine)
        assert (part.frame, part.segment, part.queued_us) == ("f", 2, 7)


@given(rows, st.integers(0, 40))
def test_split_takes_as_many_rows_as_fit(columns: list[tuple[int, int, int]], most: int) -> None:
    fitting, rest = slice_of(columns).split(most)
    check([part for part in (fitting, rest) if part is not None], columns)
    if fitting is not None:
        assert fitting.num_items <= most
    if rest is not None:
        assert (0 if fitting is None else fitting.num_items) + rest.row_items[0] > most


@given(rows, st.integers(0, 50))
def test_sieve_tells_late_rows_apart(columns: list[tuple[int, int, int]], finish: int) -> None:
    late, punctual = slice_of(columns).sieve(finish)
    check([*late, *punctual], columns)
    assert all(deadline < finish for part in late for deadline in part.deadlines_us)
    assert all(part.earliest_us >= finish for part in punctual)


@given(rows)
def test_every_piece_has_one_priority(columns: list[tuple[int, int, int]]) -> None:
    pieces = list(slice_of(columns).by_priority([column[2] for column in columns]))
    check(pieces, columns)
    for piece in pieces:
        assert {column[2] for column in columns[piece.first_row :][: piece.num_rows]} == {piece.priority}
