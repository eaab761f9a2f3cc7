"""A schema log in memory, as the registry's routes use it, and schemas to put into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from streams.registry.changes import Change
from streams.registry.schema_log import SchemaLog, fold


def record(*fields: tuple[str, Any] | tuple[str, Any, Any], name: str = "R") -> str:
    """Text of a record schema; a field is (name, type) or (name, type, default)."""
    listed = [{"name": f[0], "type": f[1], **({"default": f[2]} if len(f) == 3 else {})} for f in fields]
    return json.dumps({"type": "record", "name": name, "fields": listed})


class MemorySchemas:
    """Changes are folded at once; ``later`` are records that only ``catch_up`` sees."""

    def __init__(self, log: SchemaLog | None = None) -> None:
        self.log = log or SchemaLog()
        self.later: list[tuple[bytes | None, bytes | None]] = []
        self.num_writes = 0

    async def change(self, decide: Callable[[SchemaLog], Change]) -> Any:
        """Decide and fold."""
        made = decide(self.log)
        self.log = fold(self.log, made.records)
        self.num_writes += len(made.records)
        return made.answer

    async def catch_up(self) -> None:
        """Fold what came later."""
        self.log = fold(self.log, self.later)
        self.later = []
