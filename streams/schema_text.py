"""Avro schemas as JSON, without a library: one spelling per meaning, lint, and named parts.

A schema is refused when decoding with it could run away: recursion, and arrays or maps whose items take no bytes (six
bytes on the wire would become a billion items).
"""

from __future__ import annotations

import json
from typing import Any, Final

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
MAX_DEPTH: Final = 16
_OWN: Final = {
    "record": ("fields",),
    "error": ("fields",),
    "enum": ("symbols",),
    "fixed": ("size",),
    "array": ("items",),
    "map": ("values",),
}
_COMPLEX: Final = frozenset(_OWN)
_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})
_PARTS: Final = frozenset({"fields", "symbols", "size", "items", "values"})
_ATTRIBUTES: Final = frozenset({"type", "name", "namespace"}) | _PARTS


class SchemaRefusedError(ValueError):
    """The text is no schema that we would decode with; the sentence says why."""


def full_type_name(schema: dict[str, Any], namespace: str) -> str:
    """Name of a named type with its namespace, as Avro's specification resolves it."""
    name = str(schema.get("name", ""))
    if "." in name:
        return name
    space = str(schema.get("namespace", namespace))
    return f"{space}.{name}" if space else name


def normalise(text: str) -> str:
    """One spelling per schema: full names, plain primitives, sorted keys, no spaces.

    Raised when the text is not JSON or not a schema: SchemaRefusedError.
    """
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaRefusedError(f"the schema is not JSON: {error}") from None
    return json.dumps(_normal(schema, "", 0), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _normal(schema: Any, namespace: str, depth: int) -> Any:
    if depth > MAX_DEPTH * 2:
        raise SchemaRefusedError("the schema is nested too deeply")
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES or "." in schema or not namespace else f"{namespace}.{schema}"
    if isinstance(schema, list):
        if not schema:
            raise SchemaRefusedError("a union has at least one branch")
        return [_normal(branch, namespace, depth + 1) for branch in schema]
    if not isinstance(schema, dict) or "type" not in schema:
        raise SchemaRefusedError("a schema is a name, a union or an object with a type")
    kind = schema["type"]
    if not isinstance(kind, str) or kind not in _COMPLEX:
        rest = {key: value for key, value in schema.items() if key not in _ATTRIBUTES}
        inner = _normal(kind, namespace, depth + 1)
        return {"type": inner, **rest} if rest else inner
    strange = (_PARTS - {*_OWN[kind]}) | {"namespace"}
    out = {key: value for key, value in schema.items() if key not in strange}
    if kind in _NAMED:
        if not isinstance(schema.get("name"), str) or not isinstance(schema.get("namespace", ""), str):
            raise SchemaRefusedError(f"the name of a {kind} is text")
        out["name"] = full_type_name(schema, namespace)
        namespace = out["name"].rpartition(".")[0]
    return out | _normal_part(kind, schema, namespace, depth + 1)


def _normal_part(kind: str, schema: dict[str, Any], namespace: str, depth: int) -> dict[str, Any]:
    """What a complex type is made of, checked and normalised."""
    (key,) = _OWN[kind]
    given = schema.get(key)
    if kind in ("array", "map"):
        if key not in schema:
            raise SchemaRefusedError(f"the type of the {key} of a {kind} is missing")
        return {key: _normal(given, namespace, depth)}
    if kind == "enum":
        if not isinstance(given, list) or not all(isinstance(symbol, str) for symbol in given):
            raise SchemaRefusedError("symbols is a list of names")
        return {}
    if kind == "fixed":
        if not isinstance(given, int) or isinstance(given, bool) or given < 0:
            raise SchemaRefusedError("the size of a fixed is a number of bytes")
        return {}
    if not isinstance(given, list) or not all(isinstance(f, dict) and "type" in f and "name" in f for f in given):
        raise SchemaRefusedError("fields is a list of objects with a name and a type")
    return {key: [{**field, "type": _normal(field["type"], namespace, depth)} for field in given]}


def named_types(schema: Any, found: dict[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Every named type defined in a normalised schema, by full name."""
    found = {} if found is None else found
    if isinstance(schema, list):
        for branch in schema:
            named_types(branch, found)
    elif isinstance(schema, dict):
        if "name" in schema:
            found.setdefault(schema["name"], schema)
        named_types([f["type"] for f in schema.get("fields", ())], found)
        for key in ("items", "values"):
            if key in schema:
                named_types(schema[key], found)
        if isinstance(schema["type"], dict | list):
            named_types(schema["type"], found)
    return found


def part(schema: Any, name: str) -> Any:
    """Self-contained schema of one named type of a normalised schema: each definition stands at its first use."""
    return _unfold(name, named_types(schema), set())


def _unfold(schema: Any, defs: dict[str, dict[str, Any]], seen: set[str]) -> Any:
    if isinstance(schema, str):
        if schema in PRIMITIVES or schema in seen:
            return schema
        schema = defs[schema]
    if isinstance(schema, list):
        return [_unfold(branch, defs, seen) for branch in schema]
    if "name" in schema:
        if schema["name"] in seen:
            return schema["name"]
        seen.add(schema["name"])
    out = dict(schema)
    if "fields" in out:
        out["fields"] = [{**field, "type": _unfold(field["type"], defs, seen)} for field in out["fields"]]
    for key in ("items", "values"):
        if key in out:
            out[key] = _unfold(out[key], defs, seen)
    return out


def lint(text: str) -> str:
    """Normalised text of a schema that is safe to decode with; SchemaRefusedError says what is wrong otherwise."""
    normal = normalise(text)
    schema = json.loads(normal)
    _lint(schema, named_types(schema), (), 0)
    return normal


def _lint(schema: Any, defs: dict[str, dict[str, Any]], inside: tuple[str, ...], depth: int) -> int:
    """Smallest number of bytes a value of the schema takes on the wire."""
    if depth > MAX_DEPTH:
        raise SchemaRefusedError(f"the schema is deeper than {MAX_DEPTH} levels")
    if isinstance(schema, list):
        return 1 + min((_lint(branch, defs, inside, depth + 1) for branch in schema), default=0)
    if isinstance(schema, str):
        if schema in PRIMITIVES:
            return {"null": 0, "float": 4, "double": 8}.get(schema, 1)
        if schema in inside:
            raise SchemaRefusedError(f"the schema is recursive: {schema} holds itself")
        if schema not in defs:
            raise SchemaRefusedError(f"the schema names a type that it does not define: {schema}")
        schema = defs[schema]
    kind = schema["type"]
    if kind in ("record", "error"):
        within = (*inside, schema["name"])
        return sum(_lint(field["type"], defs, within, depth + 1) for field in schema["fields"])
    if kind in ("array", "map"):
        if _lint(schema["items" if kind == "array" else "values"], defs, inside, depth + 1) == 0 and kind == "array":
            raise SchemaRefusedError("an array's items take no bytes")
        return 1
    if kind == "fixed":
        return int(schema["size"])
    if kind == "enum":
        return 1
    return _lint(kind, defs, inside, depth + 1)
