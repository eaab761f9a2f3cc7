"""What a schema file must fulfil beside those that were written before it; the gate of ``make check``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from streams.registry.compatibility import problems
from streams.registry.schema_text import SchemaRefusedError, lint, named_types

ADDED: tuple[dict[str, Any], ...] = (
    {"name": "added_text", "type": ["null", "string"], "default": None},
    {"name": "added_count", "type": "long", "default": 0},
    {"name": "added_list", "type": {"type": "array", "items": "string"}, "default": []},
)


def complaints(record: str, versions: Mapping[int, str]) -> list[str]:
    """Why the versions of a record's schema (text by number) may not stand side by side; empty when they may."""
    found: list[str] = []
    if sorted(versions) != list(range(1, len(versions) + 1)):
        found.append(f"{record}: the versions {sorted(versions)} are not 1, 2, 3 and so on")
    for number, text in sorted(versions.items()):
        try:
            name = json.loads(lint(text))["name"]
        except SchemaRefusedError as error:
            found.append(f"{record} v{number}: {error}")
            continue
        if name != f"isos.{record}":
            found.append(f"{record} v{number}: the record is named {name}")
        older = [(each, versions[each]) for each in sorted(versions) if each < number]
        found += [f"{record} v{number}: {why}" for why in problems(text, older, "FULL_TRANSITIVE")]
    return found


def meaning(text: str) -> str:
    """Digest of a schema without its documentation: what must never change once records were written with it."""
    return hashlib.sha256(json.dumps(_bare(json.loads(lint(text))), sort_keys=True).encode()).hexdigest()[:16]


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if isinstance(schema, dict):
        return {key: value if key == "default" else _bare(value) for key, value in schema.items() if key != "doc"}
    return schema


def next_version(text: str) -> str:
    """The schema as a later release could have it: fields with defaults more, in front, behind and in a part."""
    schema = json.loads(lint(text))
    parts = [part for name, part in named_types(schema).items() if "fields" in part and name != schema["name"]]
    for part in parts[:1]:
        part["fields"].append(ADDED[0])
    schema["fields"] = [ADDED[0], *schema["fields"], *ADDED[1:]]
    return json.dumps(schema)
