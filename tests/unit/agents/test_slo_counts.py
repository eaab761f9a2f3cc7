"""Which rows count for an SLO, and how fast they spend its budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.slo_counts import MAX_VERSIONS, Count, Share, Slot, Versions, added, objectives, shares, slot_of, total
from schemas.serving import Slo
from schemas.telemetry import LATENCY_BOUNDS_MS, ModelWindow

SLO = Slo(250, 10_000, 1_000)


def part(counts: tuple[int, ...] = (), ok: int = 0, error: int = 0, rejected: int = 0, expired: int = 0) -> ModelWindow:
    rows = ok + error + rejected + expired
    return ModelWindow("digits", "v1.0.0", rows, ok, error, rejected, expired, 0, 0, counts)


def test_what_counts_and_what_is_bad() -> None:
    at = LATENCY_BOUNDS_MS.index(250)
    counts = (*[0] * at, 7, 2, 0, 1)  # seven within 200 to 250 ms, three later
    assert slot_of(part(counts, 10, 2, 40, 1), SLO, 5) == Slot(5, 10, 3, 13, 3)
    assert slot_of(part(rejected=40), SLO, 5) is None
    assert slot_of(part(), SLO, 5) is None


def test_a_stage_that_tells_no_latencies_has_no_late_rows() -> None:
    assert slot_of(part((), 10), SLO, 5) == Slot(5, 0, 0, 10, 0)


def test_above_all_bounds_is_late_for_every_target() -> None:
    counts = (*[0] * len(LATENCY_BOUNDS_MS), 4)
    for bound in LATENCY_BOUNDS_MS:
        slot = slot_of(part(counts, 4), Slo(bound, 10_000), 0)
        assert slot is not None
        assert slot.num_late == 4
    assert slot_of(part((9,), 9), Slo(1, 10_000), 0) == Slot(0, 9, 0, 9, 0)


def test_a_target_between_bounds_counts_up_to_the_next_one() -> None:
    """Another release may have had other bounds: what may be in time is in time."""
    at = LATENCY_BOUNDS_MS.index(250)
    slot = slot_of(part((*[0] * at, 7, 2), 9), Slo(210, 10_000), 0)
    assert slot is not None
    assert slot.num_late == 2


def test_objectives_are_those_that_are_set() -> None:
    assert list(objectives(SLO)) == [("latency", 10_000), ("errors", 1_000)]
    assert list(objectives(Slo(250, 10_000))) == [("latency", 10_000)]
    assert list(objectives(Slo(error_ppm=7_000))) == [("errors", 7_000)]


@pytest.mark.parametrize(
    ("count", "allowed_ppm", "percent", "burns"),
    [
        (Count(0, 0), 10_000, 1_440, False),
        (Count(1_000, 143), 10_000, 1_440, False),
        (Count(1_000, 144), 10_000, 1_440, True),
        (Count(3_000_000_000, 431_999_999), 10_000, 1_440, False),
        (Count(3_000_000_000, 432_000_000), 10_000, 1_440, True),
        (Count(10, 10), 100_000, 1_440, False),  # ten times is all there is
        (Count(10, 6), 100_000, 600, True),
    ],
)
def test_the_threshold_is_exact(count: Count, allowed_ppm: int, percent: int, burns: bool) -> None:
    assert count.burns(allowed_ppm, percent) is burns


def test_a_burn_rate_for_people() -> None:
    assert (Count(0, 0).burn(10_000), Count(3, 1).burn(10_000), Count(50, 50).burn(10)) == (0.0, 33.33, 100_000.0)


def slot(start_us: int, rows: int = 1) -> Slot:
    return Slot(start_us, rows, 1, rows, 0)


def test_slots_add_up_in_order_and_old_ones_go() -> None:
    versions: Versions = {}
    for start_us in (20, 10, 30, 20):
        versions = added(versions, "v1", slot(start_us), 0)
    assert versions == {"v1": (slot(10), Slot(20, 2, 2, 2, 0), slot(30))}
    versions = added(versions, "v2", slot(40), 25)
    assert versions == {"v1": (slot(30),), "v2": (slot(40),)}
    assert added(versions, "v2", slot(24), 25) == versions
    assert added(versions, "v2", slot(50), 41) == {"v2": (slot(50),)}


def test_versions_that_clients_think_of_are_bounded() -> None:
    versions: Versions = {}
    for number in range(50):
        versions = added(versions, f"v{number}", slot(10), 0)
    assert len(versions) == MAX_VERSIONS + 1
    assert versions[""] == (Slot(10, 42, 42, 42, 0),)
    assert total(shares(versions, "latency", 0)) == Count(50, 50)


def test_shares_are_by_version_and_objective() -> None:
    versions: Versions = {"v2": (Slot(10, 5, 1, 9, 3),), "v1": (Slot(0, 4, 4, 4, 4), Slot(10, 1, 0, 2, 1))}
    assert shares(versions, "latency", 10) == (Share("v1", 1, 0), Share("v2", 5, 1))
    assert shares(versions, "errors", 0) == (Share("v1", 6, 5), Share("v2", 9, 3))
    assert shares(versions, "errors", 11) == ()
    assert total(()) == Count(0, 0)


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(("v1", "v2")), st.integers(1, 9)), max_size=60))
def test_whatever_comes_in_whatever_order_is_counted_once(told: list[tuple[int, str, int]]) -> None:
    versions: Versions = {}
    for start, version, rows in told:
        versions = added(versions, version, slot(start * 10, rows), 0)
    for slots in versions.values():
        assert [each.start_us for each in slots] == sorted({each.start_us for each in slots})
    for first in (0, 15, 200, 500):
        wanted = sum(rows for start, _, rows in told if start * 10 >= first)
        assert total(shares(versions, "errors", first)).num_rows == wanted
