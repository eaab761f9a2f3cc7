"""Which schema may follow which: the rules of Avro's schema resolution, by compatibility level. No I/O.

The comparison itself is the ``avro`` package's; this module says which pairs a level compares. "Reads" means that every
value the writer's schema allows can be resolved to the reader's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import parse

from streams.registry.schema_text import SchemaRefusedError, lint

LEVELS: Final = (
    *("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"),
)
"""Backward: the new schema reads what the old ones wrote. Forward: the old ones read what it writes. Full: both.

Plain levels compare with the latest version, transitive ones with all.
"""


def check_schema(text: str) -> str:
    """Normalised text of a schema that can be registered: safe to decode with, and valid to the ``avro`` package.

    SchemaRefusedError says in one sentence what is wrong.
    """
    normal = lint(text)
    _parsed(normal)
    return normal


@lru_cache(maxsize=512)
def _parsed(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logical types that the package does not know are plain types to it
        try:
            return parse(text)
        except (AvroException, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SchemaRefusedError(f"the schema is not valid: {error}") from None


def unreadable(reader: str, writer: str) -> tuple[str, ...]:
    """Why the schema ``reader`` cannot read what ``writer`` wrote, one sentence each; empty when it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    found = checker.get_compatibility(_parsed(reader), _parsed(writer))
    if found.compatibility is not SchemaCompatibilityType.incompatible:
        return ()
    kinds = ", ".join(sorted({kind.value for kind in found.incompatibilities}))
    places = ", ".join(sorted(found.locations))
    return (f"{kinds} at {places}: {'; '.join(sorted(found.messages))}",)


def problems(new: str, versions: Sequence[tuple[int, str]], level: str) -> tuple[str, ...]:
    """Why ``new`` may not follow ``versions`` (number and text, oldest first) at a level; empty when it may.

    SchemaRefusedError when one of the texts is no schema.
    """
    compared = versions if level.endswith("_TRANSITIVE") else versions[-1:]
    backward = level.startswith(("BACKWARD", "FULL"))
    forward = level.startswith(("FORWARD", "FULL"))
    found: list[str] = []
    for number, old in compared:
        if backward:
            found += [f"the new schema cannot read what version {number} wrote: {why}" for why in unreadable(new, old)]
        if forward:
            found += [f"version {number} cannot read what the new schema writes: {why}" for why in unreadable(old, new)]
    return tuple(found)
