"""Which version serves a row: never one whose breaker is open, and the same each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.breaker import NOWHERE, PROBE_PERMILLE, alternatives, choose_version, is_probe, retry_after_ms
from schemas.plan import Plan, VersionWeight
from schemas.serving import Breaker

SECOND = 1_000_000
VERSIONS = ("v1.0.0", "v2.0.0", "v3.0.0")
PLAN = Plan("digits", (VersionWeight("v2.0.0", 100),), 64, 30_000, fallbacks=("v1.0.0", "v3.0.0"))
PROBE = next(b"r%d" % n for n in range(10_000) if is_probe(b"r%d" % n))
OTHER = next(b"r%d" % n for n in range(10_000) if not is_probe(b"r%d" % n))


def breaker(version: str, state: str = "open") -> Breaker:
    return Breaker("digits", version, state, "20 of 20 rows failed", 10 * SECOND, 15 * SECOND)  # type: ignore[arg-type]


def broken(**states: str) -> dict[str, Breaker]:
    return {f"{name}.0.0": breaker(f"{name}.0.0", state) for name, state in states.items()}


def test_the_planned_version_serves_while_its_breaker_is_closed() -> None:
    assert choose_version(PLAN, {}, "v2.0.0", OTHER) == "v2.0.0"
    assert choose_version(PLAN, broken(v1="open", v3="open"), "v2.0.0", OTHER) == "v2.0.0"


def test_an_open_breaker_sends_rows_to_the_first_fallback_whose_breaker_is_closed() -> None:
    assert choose_version(PLAN, broken(v2="open"), "v2.0.0", PROBE) == "v1.0.0"
    assert choose_version(PLAN, broken(v2="open", v1="open"), "v2.0.0", PROBE) == "v3.0.0"
    assert choose_version(PLAN, broken(v2="open", v1="half_open"), "v2.0.0", PROBE) == "v3.0.0"  # no probe for others
    assert choose_version(PLAN, broken(v2="open", v1="open", v3="open"), "v2.0.0", PROBE) == NOWHERE


def test_behind_the_fallbacks_come_the_plans_other_versions() -> None:
    shared = Plan("digits", (VersionWeight("v1.0.0", 50), VersionWeight("v2.0.0", 50)), 64, 30_000)
    assert list(alternatives(shared, "v2.0.0")) == ["v1.0.0"]
    assert choose_version(shared, broken(v2="open"), "v2.0.0", OTHER) == "v1.0.0"
    assert choose_version(shared, broken(v1="open"), "v1.0.0", OTHER) == "v2.0.0"


def test_a_half_open_breaker_lets_a_few_rows_through() -> None:
    assert choose_version(PLAN, broken(v2="half_open"), "v2.0.0", PROBE) == "v2.0.0"
    assert choose_version(PLAN, broken(v2="half_open"), "v2.0.0", OTHER) == "v1.0.0"
    share = sum(is_probe(b"request-%d" % number) for number in range(20_000)) / 20_000
    assert share == pytest.approx(PROBE_PERMILLE / 1000, abs=0.006)


def test_a_pinned_row_goes_to_its_version_or_nowhere() -> None:
    assert choose_version(PLAN, {}, "v3.0.0", OTHER, pinned=True) == "v3.0.0"
    assert choose_version(PLAN, broken(v3="open"), "v3.0.0", OTHER, pinned=True) == NOWHERE
    assert choose_version(PLAN, {}, "v3.0.0", OTHER, pinned=True, failed="v3.0.0") == "v3.0.0"


def test_a_row_that_failed_goes_elsewhere_or_where_there_is_nothing_else_to_the_same_again() -> None:
    assert choose_version(PLAN, {}, "v2.0.0", OTHER, failed="v2.0.0") == "v1.0.0"
    assert choose_version(PLAN, broken(v2="open"), "v2.0.0", OTHER, failed="v1.0.0") == "v3.0.0"
    alone = Plan("digits", (VersionWeight("v2.0.0", 100),), 64, 30_000)
    assert choose_version(alone, {}, "v2.0.0", OTHER, failed="v2.0.0") == "v2.0.0"
    assert choose_version(alone, broken(v2="open"), "v2.0.0", OTHER, failed="v2.0.0") == NOWHERE
    assert choose_version(alone, broken(v2="open"), "v2.0.0", OTHER) == NOWHERE


@given(
    st.sampled_from(VERSIONS),
    st.lists(st.sampled_from(VERSIONS), max_size=3),
    st.dictionaries(st.sampled_from(VERSIONS), st.sampled_from(("open", "half_open"))),
    st.binary(max_size=12),
    st.booleans(),
    st.sampled_from(("", *VERSIONS)),
)
def test_no_row_goes_where_it_may_not(
    planned: str, fallbacks: list[str], states: dict[str, str], request_id: bytes, pinned: bool, failed: str
) -> None:
    plan = Plan("digits", (VersionWeight(planned, 100),), 64, 30_000, fallbacks=tuple(fallbacks))
    found = {version: breaker(version, state) for version, state in states.items()}
    chosen = choose_version(plan, found, planned, request_id, pinned=pinned, failed=failed)
    assert chosen == choose_version(plan, found, planned, request_id, pinned=pinned, failed=failed)
    if chosen == NOWHERE:
        assert pinned or all(version in found or version == failed for version in (planned, *fallbacks))
        return
    assert chosen in ({planned, failed} if pinned else {planned, failed, *fallbacks})
    assert states.get(chosen) != "open"
    assert states.get(chosen) != "half_open" or is_probe(request_id)


def test_a_refused_row_is_told_when_to_come_again() -> None:
    now_us = 20 * SECOND
    assert retry_after_ms(broken(v2="open"), "v2.0.0", now_us) == 5_000
    assert retry_after_ms(broken(v2="open"), "v2.0.0", 30 * SECOND) == 1
    assert retry_after_ms(broken(v2="half_open"), "v2.0.0", now_us) == 1_000
    assert retry_after_ms({}, "v2.0.0", now_us) == 1_000
