"""Ids of effects and what was seen of them."""

from __future__ import annotations

from schemas.journal import JournalEntry
from streams.control.effect_id import SeenEffects, effect_id, parse_effect_id


def test_effect_ids() -> None:
    assert effect_id(JournalEntry("a/b", 1, 0, "record", "in", 0, 0, b"", b"", "", (), b""), 2) == "a/b/1/2"
    assert parse_effect_id("a/b/1/2") == ("a/b", (1, 2))
    assert parse_effect_id("") is None
    assert parse_effect_id("a/1") is None
    assert parse_effect_id("a/x/1") is None


def test_seen_effects_are_kept_per_place() -> None:
    seen = SeenEffects()
    seen.note("a/5/1", "t/0")
    assert seen.is_repeat("a/5/0", "t/0")
    assert not seen.is_repeat("a/5/0", "u/0")
    assert not seen.is_repeat("", "t/0")
    assert not seen.is_repeat("a/5/2", "t/0")
