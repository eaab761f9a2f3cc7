"""The two scripts of the cache on dictionaries: what Redis does, for tests without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Hashes = dict[str, dict[bytes, Any]]


def look_up(hashes: Hashes, args: Sequence[Any]) -> bytes:
    """Values by key, the newer hash first."""
    newer, older, fields, left = args
    parts = []
    for at in range(0, len(fields), 32):
        field = fields[at : at + 32]
        value = hashes.get(newer, {}).get(field) or hashes.get(older, {}).get(field) or b""
        if len(value) > left:
            value = b""
        left -= len(value)
        parts += [len(value).to_bytes(4, "little"), value]
    return b"".join(parts)


def fill(hashes: Hashes, args: Sequence[Any]) -> int:
    """Put values into the newer hash; a full one becomes the older one."""
    newer, older, limit, _, weight, values = args
    held = hashes.setdefault(newer, {})
    at = 0
    while at < len(values):
        field, length = values[at : at + 32], int.from_bytes(values[at + 32 : at + 36], "little")
        if field not in held:
            held[b"bytes"] = held.get(b"bytes", 0) + length + weight
        held[field] = values[at + 36 : at + 36 + length]
        at += 36 + length
    size = held.get(b"bytes", 0)
    if size < limit:
        return int(size)
    hashes[older] = hashes.pop(newer)
    return 0
