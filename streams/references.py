"""References in memory: where they stand, and by what name statistics say which one they were counted by."""

from __future__ import annotations

import hashlib
from typing import Final

from schemas.reference import Reference
from streams.canonical import from_json
from streams.memory_view import MemoryView

REFERENCES: Final = "reference/"


def reference_key(model: str, version: str) -> str:
    """Where a version's reference stands in memory."""
    return f"{REFERENCES}{model}/{version}"


def reference_id(body: str) -> str:
    """First 16 hex digits of the SHA-256 of a reference's body as it stands in memory."""
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def reference(view: MemoryView, model: str, version: str) -> Reference | None:
    """The reference of a version, or None."""
    entry = view.entries.get(reference_key(model, version))
    return None if entry is None else from_json(Reference, entry.body, newer=True)
