"""Spliced primitives are the bytes that the Avro specification gives."""

from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.varint import read_long, write_array, write_bytes, write_double, write_long, write_string


def reference(schema: object, value: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


@given(st.integers(-(2**63), 2**63 - 1))
def test_long(n: int) -> None:
    assert write_long(n) == reference("long", n)
    assert read_long(write_long(n), 0) == (n, len(write_long(n)))


@given(st.text(), st.binary(), st.floats(allow_nan=False))
def test_string_bytes_double(text: str, data: bytes, x: float) -> None:
    assert write_string(text) == reference("string", text)
    assert write_bytes(data) == reference("bytes", data)
    assert write_double(x) == reference("double", x)


@given(st.lists(st.integers(-(2**31), 2**31)))
def test_array(numbers: list[int]) -> None:
    assert write_array([write_long(n) for n in numbers]) == reference({"type": "array", "items": "long"}, numbers)


def test_cut_and_endless_numbers() -> None:
    with pytest.raises(EOFError):
        read_long(b"\xff", 0)
    with pytest.raises(ValueError, match="64 bits"):
        read_long(b"\xff" * 11, 0)


@pytest.mark.parametrize("last", [2, 3, 0x7F])
def test_a_tenth_byte_above_one_is_more_than_64_bits(last: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        read_long(b"\x80" * 9 + bytes([last]), 0)
    assert read_long(b"\x80" * 9 + b"\x01", 0)[0] == 1 << 62
