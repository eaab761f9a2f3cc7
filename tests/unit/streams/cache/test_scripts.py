"""The scripts' stand-in does what their words say; that Redis does the same is held by tests/integration."""

from __future__ import annotations

from streams.cache.scripts import FILL, HELD, LOOK_UP
from tests.support import cache_scripts

A, B = b"a" * 32, b"b" * 32


def packed(*values: tuple[bytes, bytes]) -> bytes:
    return b"".join(field + len(value).to_bytes(4, "little") + value for field, value in values)


def look(hashes: cache_scripts.Hashes, *fields: bytes, left: int = 100) -> bytes:
    return cache_scripts.look_up(hashes, ["new", "old", b"".join(fields), left])


def fill(hashes: cache_scripts.Hashes, *values: tuple[bytes, bytes], limit: int = 1_000) -> int:
    return cache_scripts.fill(hashes, ["new", "old", limit, 60, 10, packed(*values)])


def test_values_come_with_their_lengths_and_within_the_bound() -> None:
    hashes: cache_scripts.Hashes = {}
    assert fill(hashes, (A, b"one"), (B, b"three")) == 2 * 10 + 8
    assert look(hashes, A, B, bytes(32)) == b"\x03\0\0\0one\x05\0\0\0three\0\0\0\0"
    assert look(hashes, A, B, left=5) == b"\x03\0\0\0one\0\0\0\0"


def test_a_full_hash_becomes_the_older_one() -> None:
    hashes: cache_scripts.Hashes = {}
    assert fill(hashes, (A, b"one"), limit=13) == 0
    assert fill(hashes, (A, b"two"), limit=14) == 13
    assert look(hashes, A) == b"\x03\0\0\0two"
    assert set(hashes) == {"new", "old"}


def test_the_scripts_can_be_told_apart() -> None:
    assert "isos_cache = 'look up'" in LOOK_UP
    assert "isos_cache = 'fill'" in FILL
    assert "isos_cache = 'held'" in HELD
