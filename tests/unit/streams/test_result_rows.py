"""The kernel's own promises: it stops where there is no room or no more is wanted, and goes on from there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import Codec, SchemaIds
from streams.frame_effects import Answer
from streams.result_rows import write_rows
from streams.results import _Rows
from tests.support.frames import executed, random_frame

CODEC = Codec(SchemaIds.local())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4000), st.integers(1, 12))
def test_pieces_are_the_whole(seed: int, room: int, step: int) -> None:
    made = random_frame(seed)
    rows = _Rows(CODEC, Answer(replace(made, statuses=bytes([max(each, 2) for each in made.statuses])), 9))
    whole = np.zeros(rows.max_bytes, np.uint8)
    assert write_rows(whole, 0, 0, 0, rows.num_rows, *rows.parts)[0] == rows.num_rows
    pieces, row, fits = b"", 0, True
    while row < rows.num_rows and fits:
        out = np.zeros(room, np.uint8)
        end, at = write_rows(out, 0, row, row, min(row + step, rows.num_rows), *rows.parts)
        assert row <= end <= row + step
        fits, row, pieces = end > row, end, pieces + out[:at].tobytes()
    assert whole.tobytes().startswith(pieces)
    assert row == rows.num_rows or room < 1000


def test_it_takes_no_more_than_was_reckoned() -> None:
    made = executed(40, items=3, first=2**50)
    rows = _Rows(CODEC, Answer(made, 2**60, reaped=True))
    out = np.zeros(rows.max_bytes, np.uint8)
    end, at = write_rows(out, 0, 2**20, 0, 40, *rows.parts)
    assert end == 40
    assert at <= rows.max_bytes
