"""Holds a dataclass and its hand-written schema equal: names, order, types and defaults."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from types import ModuleType
from typing import Any

from streams.codec import SCHEMA_TEXTS
from streams.registry.schema_text import named_types, normalise

PLAIN = {
    bool: {"boolean"},
    int: {"int", "long"},
    float: {"double"},
    str: {"string"},
    bytes: {"bytes", "isos.TopicId"},
}


def definitions() -> dict[str, dict[str, Any]]:
    """Every record, enum and fixed of all schema files by short name; two definitions of one name must be equal."""
    found: dict[str, dict[str, Any]] = {}
    for text in SCHEMA_TEXTS.values():
        for name, schema in named_types(json.loads(normalise(text))).items():
            short = name.removeprefix("isos.")
            assert _flat(found.setdefault(short, schema)) == _flat(schema), f"{short} is defined twice and differently"
    return found


def _flat(schema: Any) -> Any:
    """The definition with nested definitions as their names, since only the first use spells one out."""
    if isinstance(schema, list):
        return [_flat(branch) for branch in schema]
    if isinstance(schema, dict) and "fields" in schema:
        return {**schema, "fields": [{**f, "type": _name(f["type"])} for f in schema["fields"]]}
    return schema


def _name(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_name(branch) for branch in schema]
    if isinstance(schema, dict):
        return schema["name"] if "name" in schema else {**schema, "items": _name(schema["items"])}
    return schema


def records_of(module: ModuleType) -> list[type]:
    """Dataclasses that a module defines."""
    own = (value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__)
    return [value for value in own if dataclasses.is_dataclass(value)]


def assert_mirrors(cls: type) -> None:
    """Compare a dataclass with the schema of its name."""
    schema = definitions()[cls.__name__]
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    assert [f["name"] for f in schema["fields"]] == [f.name for f in fields]
    assert schema["doc"].strip()
    for ours, theirs in zip(fields, schema["fields"], strict=True):
        where = f"{cls.__name__}.{ours.name}"
        assert theirs.get("doc", "").strip(), f"{where} has no doc"
        assert _fits(hints[ours.name], theirs["type"]), f"{where}: {hints[ours.name]} is not {theirs['type']}"
        assert ("default" in theirs) == (ours.default is not dataclasses.MISSING), f"{where}: only one has a default"
        if "default" in theirs:
            expected = list(ours.default) if isinstance(ours.default, tuple) else ours.default
            assert theirs["default"] == expected, where
            assert type(theirs["default"]) is type(expected), where


def _fits(hint: Any, schema: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not types.NoneType)
        return isinstance(schema, list) and schema[0] == "null" and len(schema) == 2 and _fits(inner, schema[1])
    if origin is tuple:
        return isinstance(schema, dict) and schema["type"] == "array" and _fits(args[0], schema["items"])
    name = schema if isinstance(schema, str) else schema.get("name", "")
    if origin is typing.Literal:
        return tuple(definitions()[name.removeprefix("isos.")]["symbols"]) == args
    if dataclasses.is_dataclass(hint):
        return bool(name == f"isos.{typing.cast(type, hint).__name__}")
    return name in PLAIN[hint]
