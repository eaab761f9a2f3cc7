"""Avro's primitives as bytes: what is spliced between parts that were encoded once. No library, no schema.

Integers are zigzag varints; strings, bytes and array blocks are a length and their content.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_DOUBLE: Final = Struct("<d")


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


# Lengths and small counts are nearly always below 8192: a table look-up instead of a loop.
_SMALL: Final = tuple(_varint(n) for n in range(16384))


def write_long(n: int) -> bytes:
    """Avro int or long of ``n`` (64 bit signed, zigzag)."""
    z = (n << 1) ^ (n >> 63)
    return _SMALL[z] if z < 16384 else _varint(z)


def write_bytes(data: bytes) -> bytes:
    """Avro bytes: length, then the content."""
    return write_long(len(data)) + data


def write_string(text: str) -> bytes:
    """Avro string: length in bytes, then UTF-8."""
    return write_bytes(text.encode())


def write_double(x: float) -> bytes:
    """Avro double: 8 bytes little-endian."""
    return _DOUBLE.pack(x)


def write_array(items: list[bytes]) -> bytes:
    """Avro array of items that are encoded already: one block and the end mark."""
    return b"".join((write_long(len(items)), *items, b"\x00")) if items else b"\x00"


def read_long(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Value of the varint at ``at`` (not negative) and the index after it.

    EOFError when cut off, ValueError above 64 bits.
    """
    try:
        byte = data[at]
        z, shift = byte & 0x7F, 7
        while byte >= 0x80:
            if shift > 63:
                raise ValueError("a number is longer than 64 bits")
            at += 1
            byte = data[at]
            z |= (byte & 0x7F) << shift
            shift += 7
    except IndexError:
        raise EOFError("the record ends inside a number") from None
    if z >> 64:
        raise ValueError("a number is longer than 64 bits")
    return (z >> 1) ^ -(z & 1), at + 1
