"""What a model takes: times and samples that are taken, and a capacity that follows only what lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.sizing import Profiled, Seen, Sizing, is_new_profile, is_sample, judged, loaded, profiled
from schemas.plan import Capacity, Plan, VersionWeight
from schemas.scaling import ScalingPolicy
from schemas.telemetry import LoadedModel, RouterLoad
from tests.support.control import SECOND

S = SECOND
PLAN = Plan("digits", (VersionWeight("v1.0.0", 50), VersionWeight("v2.0.0", 50)), 10, 30_000, fallbacks=("v0.9.0",))
POLICY = ScalingPolicy("executors", 1, 8, target_utilization_percent=50, cost_per_replica_milli=200)
KNOWN = Sizing(
    {
        "v1.0.0": Profiled(100.0, 478.0, "CPU"),
        "v2.0.0": Profiled(100.0, 1_478.0, "CPU"),
    },  # with the row 1 ms on average
    {"v1.0.0": 100, "v2.0.0": 200, "v0.9.0": 50, "v9.0.0": 999},
)


def told(rate: float, at_s: int, instance: int = 0) -> RouterLoad:
    return RouterLoad("digits", rate, 0, at_s * S, instance, rate)


def version(fixed_us: float, per_item_us: float, device: str = "CPU") -> LoadedModel:
    return LoadedModel("digits", "v1.0.0", "ab", device, fixed_us, per_item_us)


@pytest.mark.parametrize(
    ("heard", "is_new"),
    [
        (version(100.0, 478.0), False),
        (version(200.0, 478.0), False),
        (version(300.0, 478.0), True),
        (version(0.0, 400.0), True),
        (version(100.0, 478.0, "CUDA"), True),
        (replace(version(1.0, 1.0), version="v3.0.0"), True),
        (version(0.0, 0.0), True),
    ],
)
def test_times_that_are_new(heard: LoadedModel, is_new: bool) -> None:
    assert is_new_profile(KNOWN, heard) == is_new
    after = profiled(KNOWN, heard)
    assert not is_new_profile(after, heard)


def test_of_a_routers_words_few_are_taken_none_of_a_light_load_and_always_the_last() -> None:
    assert is_sample(KNOWN, told(50.0, 1))
    for light in (0.0, 5.0, 30.0):  # 1.6 ms each in batches of one
        assert not is_sample(KNOWN, told(light, 1))
    sizing = loaded(KNOWN, told(50.0, 10), 10 * S)
    assert [is_sample(sizing, told(50.0, at_s)) for at_s in (11, 14, 15)] == [False, False, True]
    assert is_sample(sizing, told(0.0, 11))
    assert [is_sample(sizing, told(5.0, at_s)) for at_s in (11, 15)] == [False, True]
    assert is_sample(sizing, told(50.0, 11, instance=1))
    for light in (0.0, 5.0):
        assert not is_sample(loaded(sizing, told(light, 15), 15 * S), told(5.0, 22))
    assert not is_sample(Sizing(), told(50.0, 1))  # how long it takes is not known yet
    assert is_sample(Sizing(), told(5_000.0, 1))  # but what rows cost by themselves is


def test_routers_are_summed_and_those_that_are_gone_forgotten() -> None:
    sizing = loaded(loaded(Sizing(), told(100.0, 10), 10 * S), told(50.0, 10, 1), 10 * S)
    assert sizing.seen == {"router-0": Seen(100.0, 100.0, 10 * S), "router-1": Seen(50.0, 50.0, 10 * S)}
    assert loaded(sizing, told(100.0, 70), 70 * S).seen == {"router-0": Seen(100.0, 100.0, 70 * S)}
    refused = RouterLoad("digits", 0.0, 0, 10 * S, 0, 60.0, 30.0, "edge")
    assert loaded(sizing, refused, 10 * S).seen["edge-0"] == Seen(30.0, 60.0, 10 * S)


def lasting(sizing: Sizing, rate: float, seconds: range) -> tuple[Sizing, list[int]]:
    """A load told every five seconds; the seconds at which the capacity changed."""
    changes = []
    for second in seconds:
        if second % 5 == 0:
            sizing = loaded(sizing, told(rate, second), second * S)
        after = judged(sizing, PLAN, POLICY, second * S)
        if after.capacity != sizing.capacity:
            changes.append(second)
        sizing = after
    return sizing, changes


def test_a_capacity_comes_after_half_a_minute_and_goes_after_two() -> None:
    sizing, changes = lasting(KNOWN, 1_400.0, range(100, 200))
    assert changes == [130]
    assert sizing.capacity == Capacity(3, "CPU", 350, 1_400.0, 1_400.0, 600)
    sizing, changes = lasting(sizing, 300.0, range(200, 400))
    assert sizing.capacity is None
    assert changes == [320]


def test_a_load_at_a_boundary_changes_nothing() -> None:
    sizing, _ = lasting(KNOWN, 1_400.0, range(100, 200))
    for minute, rate in enumerate((1_410.0, 990.0, 1_010.0, 950.0, 990.0), start=4):  # up to 1,000 two carry
        sizing, changes = lasting(sizing, rate, range(60 * minute, 60 * minute + 60))
        assert changes == []


def test_a_step_is_at_first_taken_for_more_than_it_is_and_then_set_right() -> None:
    steady, _ = lasting(KNOWN, 100.0, range(100, 200))
    stepped, changes = lasting(steady, 1_300.0, range(200, 600))
    assert len(changes) <= 2
    assert stepped.capacity is not None
    assert stepped.capacity.replicas == 3


def test_a_load_that_changes_its_mind_within_half_a_minute_changes_no_plan() -> None:
    sizing = KNOWN
    for turn in range(20):
        sizing, changes = lasting(sizing, 1_400.0 if turn % 2 else 100.0, range(25 * turn, 25 * turn + 25))
        assert changes == []


def test_nothing_is_judged_before_a_rate_was_heard_and_without_a_policy_by_the_defaults() -> None:
    assert judged(KNOWN, PLAN, POLICY, S) is KNOWN
    sizing = loaded(KNOWN, told(1_300.0, 1), S)  # 1.3 at 60 % are three
    sizing = judged(judged(sizing, PLAN, None, S), PLAN, None, 31 * S)
    assert sizing.capacity == Capacity(3, "CPU", 350, 1_300.0, 1_300.0, 0)
