"""Primitives are read as they are written, and what is cut off or out of range is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.avro_cursor import Cursor
from streams.varint import read_long, write_bytes, write_long, write_string


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=3))
def test_numbers_come_back(number: int, before: bytes) -> None:
    cursor = Cursor(before + write_long(number) + b"\x80", len(before))
    assert cursor.long() == number
    assert cursor.at == len(before) + len(write_long(number))


@given(st.binary(max_size=12))
def test_any_bytes_are_the_number_that_the_other_reader_finds_or_refused(data: bytes) -> None:
    try:
        expected = read_long(data, 0)
    except (EOFError, ValueError):
        expected = None
    cursor = Cursor(data, 0)
    if expected is None:
        with pytest.raises((EOFError, ValueError)):
            cursor.long()
        assert cursor.at == 0
    else:
        assert (cursor.long(), cursor.at) == expected


def test_bytes_and_strings() -> None:
    cursor = Cursor(write_bytes(b"\x00\xff") + write_string("é"), 0)
    assert (cursor.blob(), cursor.string()) == (b"\x00\xff", "é")
    for data in (write_long(3) + b"ab", write_long(-1) + b"ab", b""):
        with pytest.raises(EOFError):
            Cursor(data, 0).blob()


def test_ranges() -> None:
    assert Cursor(write_long(-(1 << 31)), 0).integer() == -(1 << 31)
    with pytest.raises(ValueError, match="32 bits"):
        Cursor(write_long(1 << 31), 0).integer()
    assert [Cursor(data, 0).flag(2) for data in (b"\x00", b"\x02")] == [False, True]
    with pytest.raises(ValueError, match="flag"):
        Cursor(b"\x01", 0).flag(2)
    with pytest.raises(EOFError):
        Cursor(b"", 0).flag(1)


def test_counts_of_array_blocks() -> None:
    assert Cursor(write_long(2) + b"xy", 0).count() == 2
    cursor = Cursor(write_long(-2) + write_long(9) + b"xy", 0)  # a block that says its size
    assert (cursor.count(), cursor.at) == (2, 2)
    assert Cursor(b"\x00", 0).count() == 0
    with pytest.raises(ValueError, match="more items"):
        Cursor(write_long(3) + b"xy", 0).count()
