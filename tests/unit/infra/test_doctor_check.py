"""A check is a value."""

from __future__ import annotations

from infra.doctor_check import Check


def test_a_check_that_is_well_needs_no_remedy() -> None:
    assert Check("disk", "ok", "There is room.") == Check("disk", "ok", "There is room.", "")
