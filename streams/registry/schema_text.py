"""Avro schemas as JSON, without a library: one spelling per meaning, lint, and named parts.

A schema is refused when decoding with it could run away: recursion, arrays whose items take no bytes (six bytes on the
wire would become a billion items), and a few types that name each other so often that they unfold to billions of parts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
MAX_DEPTH: Final = 16
MAX_PARTS: Final = 10_000
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
    strange = (_PARTS - {*_OWN[kind]}) | {"namespace"} | (frozenset() if kind in _NAMED else {"name"})
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
    weight = _Lint(named_types(schema)).weigh(schema, ())
    if weight.height > MAX_DEPTH:
        raise SchemaRefusedError(f"the schema is deeper than {MAX_DEPTH} levels")
    if weight.num_parts > MAX_PARTS:
        raise SchemaRefusedError(f"the schema unfolds to more than {MAX_PARTS} parts")
    return normal


@dataclass(frozen=True, slots=True)
class _Weight:
    """Of a schema with every name replaced by its definition: fewest bytes of a value, levels, parts."""

    min_bytes: int
    height: int
    num_parts: int


_SIZES: Final = {"null": 0, "float": 4, "double": 8}


class _Lint:
    """Weighs a schema; each named type once, for few names can unfold to more parts than could ever be walked."""

    def __init__(self, defs: dict[str, dict[str, Any]]) -> None:
        self._defs = defs
        self._known: dict[str, _Weight] = {}

    def weigh(self, schema: Any, inside: tuple[str, ...]) -> _Weight:
        """Weight of a schema that stands within the types ``inside``; SchemaRefusedError for one that runs away."""
        if isinstance(schema, list):
            branches = [self.weigh(branch, inside) for branch in schema]
            return _above(branches, 1 + min(branch.min_bytes for branch in branches))
        if isinstance(schema, dict):
            if "name" in schema and self._defs[schema["name"]] is not schema:
                raise SchemaRefusedError(f"the schema defines a type twice: {schema['name']}")
            return self._named(schema, inside) if "name" in schema else self._unnamed(schema, inside)
        if schema in PRIMITIVES:
            return _Weight(_SIZES.get(schema, 1), 0, 1)
        if schema in inside:
            raise SchemaRefusedError(f"the schema is recursive: {schema} holds itself")
        if schema not in self._defs:
            raise SchemaRefusedError(f"the schema names a type that it does not define: {schema}")
        return self._named(self._defs[schema], inside)

    def _named(self, schema: dict[str, Any], inside: tuple[str, ...]) -> _Weight:
        name = schema["name"]
        if name not in self._known:
            self._known[name] = self._unnamed(schema, (*inside, name))
        return self._known[name]

    def _unnamed(self, schema: dict[str, Any], inside: tuple[str, ...]) -> _Weight:
        kind = schema["type"]
        if kind in ("record", "error"):
            fields = [self.weigh(field["type"], inside) for field in schema["fields"]]
            return _above(fields, sum(field.min_bytes for field in fields))
        if kind in ("array", "map"):
            item = self.weigh(schema["items" if kind == "array" else "values"], inside)
            if item.min_bytes == 0 and kind == "array":
                raise SchemaRefusedError("an array's items take no bytes")
            return _above([item], 1)
        if kind in ("fixed", "enum"):
            return _Weight(int(schema["size"]) if kind == "fixed" else 1, 0, 1)
        inner = self.weigh(kind, inside)
        return _above([inner], inner.min_bytes)


def _above(parts: list[_Weight], min_bytes: int) -> _Weight:
    height = 1 + max((part.height for part in parts), default=0)
    return _Weight(min_bytes, height, 1 + sum(part.num_parts for part in parts))
