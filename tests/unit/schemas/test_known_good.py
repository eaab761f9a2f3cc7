"""Known-good versions and roll-backs as values."""

from __future__ import annotations

from schemas.known_good import Check, GoodVersion, KnownGood, Rollback
from streams.canonical import from_json, to_json

GOOD = KnownGood("digits", (GoodVersion("v2.0.0", "ab" * 32, 1, 2, 300), GoodVersion("v1.0.0", "", 0, 1, 200)))


def test_a_version_is_known_as_good_or_not() -> None:
    assert [GOOD.has(version) for version in ("v1.0.0", "v2.0.0", "v3.0.0")] == [True, True, False]


def test_both_come_back_from_memory_as_they_were() -> None:
    rollback = Rollback("r", "digits", "v3.0.0", "v2.0.0", "al", "why", 5, checks=(Check("serving", True, "yes"),))
    assert from_json(KnownGood, to_json(GOOD)) == GOOD
    assert from_json(Rollback, to_json(rollback)) == rollback
