"""One objective at one speed: which windows, whom to blame."""

from __future__ import annotations

import pytest

from agents.slo_case import Judged, SloCase, SloParams
from agents.slo_counts import Slot
from schemas.serving import Slo
from tests.support.control import HERE, SECOND

PARAMS = SloParams()
NOW_US = 1_000 * SECOND


def case(versions: dict[str, tuple[Slot, ...]], active: str = "", active_s: int = 0, speed: int = 0) -> SloCase:
    judged = Judged(Slo(0, 0, 1_000), HERE, versions, active=active, active_us=active_s * SECOND)
    return SloCase("digits", judged, "errors", 1_000, PARAMS.speeds[speed], NOW_US, PARAMS)


def slots(rows: int, bad: int, since_s: int = 990) -> tuple[Slot, ...]:
    return (Slot(since_s * SECOND, 0, 0, rows, bad),)


@pytest.mark.parametrize(
    ("versions", "blamed"),
    [
        ({"v1.0.0": slots(100, 10)}, "v1.0.0"),
        ({"v1.0.0": slots(100, 10), "v2.0.0": slots(100, 0)}, "v1.0.0"),
        ({"v1.0.0": slots(100, 10), "v2.0.0": slots(100, 10)}, ""),
        ({"v1.0.0": slots(10_000, 100)}, ""),
    ],
)
def test_the_only_version_that_burns_is_blamed(versions: dict[str, tuple[Slot, ...]], blamed: str) -> None:
    assert case(versions).blamed() == blamed


@pytest.mark.parametrize(
    ("active_s", "speed", "alone"),
    [(995, 0, "v2.0.0"), (881, 0, "v2.0.0"), (880, 0, None), (0, 0, None), (995, 1, None)],
)
def test_a_new_version_is_judged_alone_for_as_long_as_the_fast_window(
    active_s: int, speed: int, alone: str | None
) -> None:
    versions = {"v1.0.0": slots(100_000, 0), "v2.0.0": slots(100, 30)}
    due = case(versions, "v2.0.0", active_s, speed).due()
    assert (None if due is None else due.alone) == alone


def test_windows_begin_at_the_slot_that_they_reach_into() -> None:
    assert PARAMS.first_us(995 * SECOND, 10 * SECOND) == 980 * SECOND
