"""What a demand needs within a policy, and when a need that lasts becomes a step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.load_picture import Demand
from agents.replica_need import REST, Need, Pressure, need_of, pressed, step_of
from schemas.scaling import ScalingPolicy
from tests.support.control import SECOND

S = SECOND
POLICY = ScalingPolicy("executors", 1, 8, target_utilization_percent=50)
DEMANDS = st.builds(
    Demand,
    rows_per_s=st.floats(0, 1e5),
    items_per_s=st.floats(0, 1e6),
    work=st.floats(0, 100),
    num_held=st.integers(0, 10),
    waiting=st.integers(0, 100_000),
    backlog_s=st.floats(0, 1_000),
    ongoing=st.floats(0, 1e5),
)
POLICIES = st.builds(
    ScalingPolicy,
    pool=st.just("executors"),
    min_replicas=st.integers(0, 4),
    max_replicas=st.integers(4, 16),
    target_utilization_percent=st.integers(10, 95),
    target_ongoing_requests=st.integers(0, 100),
    lag_threshold=st.integers(0, 100),
    cost_per_replica_milli=st.just(100),
    budget_milli=st.integers(400, 2_000),
    scale_above_rows_per_s=st.integers(0, 1_000),
)


@pytest.mark.parametrize(
    ("demand", "policy", "up", "down"),
    [
        (Demand(), POLICY, 1, 1),
        (Demand(100, 100, work=0.5), POLICY, 1, 2),  # at the boundary: no more for now, and not one less either
        (Demand(100, 100, work=0.51), POLICY, 2, 2),
        (Demand(100, 100, work=2.0, backlog_s=10.0, waiting=900), POLICY, 8, 8),  # (2 + 10 / 5) / 0.5
        (Demand(100, 100, work=2.0, backlog_s=10.0, waiting=900), replace(POLICY, drain_s=20), 5, 6),
        (Demand(100, 100, work=9.0), POLICY, 8, 8),
        (Demand(100, 100, work=0.1, ongoing=70.0), replace(POLICY, target_ongoing_requests=20), 4, 4),
        (Demand(100, 100, work=0.1, waiting=70), replace(POLICY, lag_threshold=10), 7, 7),
        (Demand(100, 100, work=2.0), replace(POLICY, cost_per_replica_milli=300, budget_milli=1_000), 3, 3),
        (Demand(100, 100, work=2.0), replace(POLICY, scale_above_rows_per_s=101), 1, 1),
        (Demand(100, 100, work=2.0, waiting=5), replace(POLICY, scale_above_rows_per_s=101), 4, 5),
        (Demand(), replace(POLICY, min_replicas=3), 3, 3),
    ],
)
def test_need(demand: Demand, policy: ScalingPolicy, up: int, down: int) -> None:
    need = need_of(demand, policy, 1)
    assert (need.up, need.down) == (up, down)


def test_its_reason_says_the_measure_and_the_bound() -> None:
    lagging = need_of(Demand(1_234.4, 2_000.2, work=2.0, waiting=90, backlog_s=11.0), POLICY, 2)
    assert lagging.why == (
        "2000 items/s keep 2.00 executors busy, 90 items wait (11.00 s); each is to be busy for 50 %: 9 needed"
        ", at most 8 are allowed"
    )
    assert lagging.urgent  # eleven seconds of work for two, who are to be done in five
    assert not need_of(Demand(1, 1, work=2.0, waiting=90, backlog_s=10.0), POLICY, 2).urgent
    assert need_of(Demand(9, 9, work=2.0, refused_per_s=1.0), POLICY, 2).urgent  # no backlog will ever say so
    cheap = replace(POLICY, cost_per_replica_milli=300, budget_milli=1_000)
    assert need_of(Demand(9, 9, work=9.0), cheap, 2).why.endswith("18 needed, the budget pays for 3")
    assert need_of(Demand(), replace(POLICY, min_replicas=2), 2).why.endswith("0 needed, at least 2 stay")
    below = need_of(Demand(90, 90, work=9.0), replace(POLICY, scale_above_rows_per_s=100), 1)
    assert below.why == "90 rows/s are below the 100 from which it scales"
    turned_away = need_of(Demand(385, 385, work=1.2, refused_per_s=325.0), POLICY, 1)
    assert turned_away.why.startswith("385 items/s (325 refused) keep 1.20 executors busy")
    queued = need_of(Demand(9, 9, work=0.1, waiting=70), replace(POLICY, lag_threshold=10), 1)
    assert queued.why == "70 items waiting at 10 per replica: 7 needed"
    foreseen = need_of(Demand(9, 9, work=0.1), POLICY, 1, ahead=1.2)
    assert foreseen.up == 3
    assert "0.10 executors busy, 1.20 foreseen" in foreseen.why


@given(DEMANDS, POLICIES, st.integers(0, 16), st.floats(0, 50))
def test_a_need_is_always_within_the_policy(demand: Demand, policy: ScalingPolicy, current: int, ahead: float) -> None:
    need = need_of(demand, policy, current, ahead)
    assert policy.floor <= need.up <= need.down <= policy.ceiling


@given(DEMANDS, POLICIES, st.floats(1, 10))
def test_more_load_never_needs_fewer(demand: Demand, policy: ScalingPolicy, times: float) -> None:
    more = replace(demand, rows_per_s=demand.rows_per_s * times, work=demand.work * times)
    assert need_of(more, policy, 1).up >= need_of(demand, policy, 1).up


def walked(needs: list[Need], policy: ScalingPolicy, current: int, ended_us: int = -99 * S) -> list[int]:
    """The steps that needs, one a second, lead to while the replicas stay as they are."""
    pressure, steps = REST, []
    for second, need in enumerate(needs, start=1):
        after = pressed(pressure, need, current, second * S, complete=True)
        steps.append(step_of(pressure, after, need, policy, current, second * S, ended_us))
        pressure = after
    return steps


def need(up: int, down: int | None = None, *, urgent: bool = False) -> Need:
    return Need(up, up if down is None else down, "", urgent)


@pytest.mark.parametrize(
    ("needs", "steps"),
    [
        ([need(4)] * 3, [2, 2, 4]),  # two seconds without a break
        ([need(4), need(2), need(4), need(4), need(4)], [2, 2, 2, 2, 4]),
        ([need(4), need(6), need(5)], [2, 2, 5]),  # the least of the last two looks
        ([need(4), need(3), need(6)], [2, 2, 3]),
        ([need(1)] * 5, [2, 2, 2, 2, 1]),  # four seconds
        ([need(1), need(2), need(1), need(1), need(1), need(1)], [2] * 6),
        ([need(1, 2)] * 9, [2] * 9),  # the tolerance
    ],
)
def test_steps(needs: list[Need], steps: list[int]) -> None:
    policy = replace(POLICY, upscale_delay_s=2, downscale_delay_s=4)
    assert walked(needs, policy, 2) == steps


def test_down_goes_to_the_most_that_was_needed_in_the_meantime() -> None:
    policy = replace(POLICY, downscale_delay_s=3)
    assert walked([need(1), need(3), need(1), need(1)], policy, 6) == [6, 6, 6, 3]


def test_a_cooldown_keeps_steps_apart_but_for_an_urgent_one_up_and_from_zero() -> None:
    policy = replace(POLICY, upscale_delay_s=1, downscale_delay_s=1, cooldown_s=4)
    assert walked([need(4)] * 5, policy, 2, ended_us=0) == [2, 2, 2, 4, 4]
    assert walked([need(1)] * 5, policy, 2, ended_us=0) == [2, 2, 2, 1, 1]
    assert walked([need(4, urgent=True)] * 3, policy, 2, ended_us=0) == [2, 4, 4]
    assert walked([need(1, urgent=True)] * 3, policy, 2, ended_us=0) == [2, 2, 2]
    assert walked([need(3)], policy, 0, ended_us=0) == [3]


def test_what_is_not_known_presses_only_upwards() -> None:
    low = Pressure(down_since_us=S, down_most=1)
    assert pressed(low, need(1), 2, 2 * S, complete=False) == REST
    assert pressed(REST, need(3), 2, 2 * S, complete=False) == Pressure(up_since_us=2 * S, up_last=3)
