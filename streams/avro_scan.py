"""Walk an Avro body without building anything: lengths, item counts and number sizes are checked before decoding.

``compile_scan(schema)`` gives a function that returns the index after the body, or raises EOFError or ValueError.
The items of all arrays and maps together are capped: a few megabytes of tiny items must not become gigabytes of
objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from streams.registry.schema_text import PRIMITIVES, named_types
from streams.varint import read_long

MAX_ITEMS: Final = 65_536
Skip = Callable[[bytes, int, list[int]], int]
Scan = Callable[[bytes, int], int]


def compile_scan(normal: str) -> Scan:
    """Scanner for a schema that ``schema_text.lint`` accepted (its normalised text)."""
    schema = json.loads(normal)
    skip = _compile(schema, named_types(schema))

    def scan(data: bytes, at: int) -> int:
        return skip(data, at, [MAX_ITEMS])

    return scan


def _compile(schema: Any, defs: dict[str, dict[str, Any]]) -> Skip:
    if isinstance(schema, list):
        return _union([_compile(branch, defs) for branch in schema])
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(schema, str) and kind not in PRIMITIVES:
        return _compile(defs[kind], defs)
    if not isinstance(kind, str):
        return _compile(kind, defs)
    if kind in ("record", "error"):
        return _record([_compile(field["type"], defs) for field in schema["fields"]])
    if kind in ("array", "map"):
        item = _compile(schema["items" if kind == "array" else "values"], defs)
        return _blocks(_record([_skip_sized, item]) if kind == "map" else item)
    if kind == "enum":
        return _enum(len(schema["symbols"]))
    if kind == "fixed":
        return _fixed(int(schema["size"]))
    return _PRIMITIVE[kind]


def _skip_int(data: bytes, at: int, _: list[int]) -> int:
    value, at = read_long(data, at)
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError("an int is longer than 32 bits")
    return at


def _skip_long(data: bytes, at: int, _: list[int]) -> int:
    return read_long(data, at)[1]


def _skip_sized(data: bytes, at: int, _: list[int]) -> int:
    # Most lengths take one byte: reading them here saves a call per field.
    if at < len(data) and (first := data[at]) < 0x80 and not first & 1:
        length, at = first >> 1, at + 1
    else:
        length, at = read_long(data, at)
    if not 0 <= length <= len(data) - at:
        raise EOFError("a length points past the end of the record")
    return at + length


def _fixed(size: int) -> Skip:
    def skip(data: bytes, at: int, _: list[int]) -> int:
        if size > len(data) - at:
            raise EOFError("the record ends early")
        return at + size

    return skip


def _enum(num_symbols: int) -> Skip:
    def skip(data: bytes, at: int, _: list[int]) -> int:
        index, at = read_long(data, at)
        if not 0 <= index < num_symbols:
            raise ValueError("an enum's index is out of range")
        return at

    return skip


def _record(parts: list[Skip]) -> Skip:
    def skip(data: bytes, at: int, budget: list[int]) -> int:
        for part in parts:
            at = part(data, at, budget)
        return at

    return skip


def _union(branches: list[Skip]) -> Skip:
    def skip(data: bytes, at: int, budget: list[int]) -> int:
        index, at = read_long(data, at)
        if not 0 <= index < len(branches):
            raise ValueError("a union's index is out of range")
        return branches[index](data, at, budget)

    return skip


def _blocks(item: Skip) -> Skip:
    def skip(data: bytes, at: int, budget: list[int]) -> int:
        while True:
            count, at = read_long(data, at)
            if count == 0:
                return at
            if count < 0:
                _, at = read_long(data, at)
                count = -count
            if count > len(data) - at:
                raise EOFError("an array has more items than the record has bytes")
            budget[0] -= count
            if budget[0] < 0:
                raise ValueError(f"the record has more than {MAX_ITEMS} items")
            for _ in range(count):
                at = item(data, at, budget)

    return skip


_PRIMITIVE: Final[dict[str, Skip]] = {
    "null": lambda _data, at, _budget: at,
    "boolean": _fixed(1),
    "int": _skip_int,
    "long": _skip_long,
    "float": _fixed(4),
    "double": _fixed(8),
    "bytes": _skip_sized,
    "string": _skip_sized,
}
