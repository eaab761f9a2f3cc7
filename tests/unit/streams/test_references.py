"""References in memory."""

from __future__ import annotations

from types import MappingProxyType

from schemas.memory import MemoryEntry
from streams.canonical import to_json
from streams.memory_view import MemoryView
from streams.references import reference, reference_id, reference_key
from tests.support import drift


def test_a_reference_is_found_under_its_version() -> None:
    made = drift.reference(60)
    key = reference_key("digits", "v1.0.0")
    view = MemoryView(3, entries=MappingProxyType({key: MemoryEntry(key, 1, 3, to_json(made), 5)}))
    assert reference(view, "digits", "v1.0.0") == made
    assert reference(view, "digits", "v2.0.0") is None


def test_its_name_in_statistics_follows_from_its_body() -> None:
    assert reference_id("{}") == "44136fa355b3678a"
