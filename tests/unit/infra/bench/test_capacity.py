"""The search for the highest rate that is carried, against a stack of known capacity."""

import pytest

from infra.bench.capacity import PROBE_S, REPEATS, capacity, carried, knee_of
from infra.bench.models import mlps
from infra.bench.phase import Phase
from tests.support.fake_bench import FakeBench, measured

LOADS = tuple(model.load for model in mlps(1))


@pytest.mark.parametrize(
    ("latency_ms", "status", "good"), [(99.0, 1, True), (101.0, 1, False), (5.0, 3, False), (5.0, 2, False)]
)
def test_carried_is_all_ok_and_in_time(latency_ms, status, good):
    assert carried(measured(Phase("p", LOADS, 100, 1, 0), latency_ms, status)) is good


def test_a_curve_has_a_point_per_probe():
    bench = FakeBench(1_000)
    rate, curve = knee_of(bench, "one", LOADS, 900)
    assert 950 < rate <= 1_000
    assert len(curve) == len(bench.phases)
    assert {point["carried"] for point in curve} == {True, False}
    assert all(phase.phase.seconds == PROBE_S for phase in bench.phases)


def test_the_scenario_gives_both_capacities_with_three_repeats():
    bench = FakeBench(3_000)
    result = capacity(bench)
    assert bench.phases[0].phase.name == "warm-up"
    assert 2_800 < result["capacity_rps"] == result["capacity_12_rps"] <= 3_000
    assert 2_800 < result["capacity_1_rps"] <= 3_000
    assert len(result["repeats_12"]) == len(result["repeats_1"]) == REPEATS
    assert set(result["curves"]) == {"12 models", "1 model"}


def test_where_nothing_is_carried_there_is_no_capacity():
    assert capacity(FakeBench(0))["capacity_rps"] is None
