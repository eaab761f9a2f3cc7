"""Versions that failed a check, until it passes."""

from __future__ import annotations

from typing import Any

from agents.unfit import is_unfit, note
from schemas.check import GOLDEN_SET, INTEGRITY, LATENCY
from schemas.review import Validation


def outcome(check: str, said: str, version: str = "v1.0.0") -> Validation:
    return Validation("v", check, "digits", version, said == "passed", "", 5, said)


def test_a_version_is_unfit_until_every_check_passes_again() -> None:
    unfit: Any = {}
    for check, said, expected in (
        (LATENCY, "failed", False),
        (GOLDEN_SET, "not_run", False),
        (GOLDEN_SET, "failed", True),
        (INTEGRITY, "failed", True),
        (GOLDEN_SET, "passed", True),
        (INTEGRITY, "not_run", True),
        (INTEGRITY, "passed", False),
    ):
        unfit = note(unfit, outcome(check, said))
        assert is_unfit(unfit, "digits", "v1.0.0") == expected, (check, said)
    assert unfit == {}


def test_what_changes_nothing_gives_the_same_object_and_versions_stand_apart() -> None:
    unfit = note({}, outcome(GOLDEN_SET, "failed"))
    assert unfit == {"digits/v1.0.0": (GOLDEN_SET,)}
    assert note(unfit, outcome(GOLDEN_SET, "failed")) is unfit
    assert note(unfit, outcome(INTEGRITY, "passed")) is unfit
    assert not is_unfit(unfit, "digits", "v2.0.0")
    both = note(unfit, outcome(INTEGRITY, "failed", "v2.0.0"))
    assert sorted(both) == ["digits/v1.0.0", "digits/v2.0.0"]
