"""Two phases on one stack, and what is divided by what."""

import pytest

from infra.bench import ratios
from tests.support.fake_bench import FakeBench


def test_growth_divides_cpu_per_request():
    bench = FakeBench()
    assert ratios.growth(bench)["cpu_ratio"] == 1.0
    assert [len(phase.phase.loads) for phase in bench.phases] == [12, 100]
    assert len(set(bench.served)) == 100
    assert bench.phases[0].phase.rate == bench.phases[1].phase.rate


def test_priority_compares_the_urgent_ones(monkeypatch):
    monkeypatch.setattr("infra.bench.models.round_ms", lambda width: 0.01)
    bench = FakeBench(200)
    result = ratios.priority(bench)
    assert [[load.priority for load in phase.phase.loads] for phase in bench.phases] == [[0], [0, 9]]
    assert result["p99_ratio"] == pytest.approx(100.0)
    assert result["flood"]["sent"] > 0


def test_isolation_compares_the_fast_ones(monkeypatch):
    monkeypatch.setattr("infra.bench.models.round_ms", lambda width: 0.1)
    bench = FakeBench()
    result = ratios.isolation(bench)
    assert [len(phase.phase.loads) for phase in bench.phases] == [11, 12]
    assert (result["p99_ratio"], result["slow_rps"]) == (1.0, 5.0)
    slow_share = bench.phases[1].phase.loads[-1].weight / sum(load.weight for load in bench.phases[1].phase.loads)
    assert slow_share * bench.phases[1].phase.rate == pytest.approx(5.0)


def test_garbage_compares_the_good_requests_at_an_equal_rate():
    bench = FakeBench()
    result = ratios.garbage(bench)
    assert [[load.garbage for load in phase.phase.loads].count(True) for phase in bench.phases] == [0, 1]
    loads, rate = bench.phases[1].phase.loads, bench.phases[1].phase.rate
    share = loads[-1].weight / sum(load.weight for load in loads)
    assert share == pytest.approx(ratios.GARBAGE_SHARE)
    assert rate * (1 - share) == pytest.approx(bench.phases[0].phase.rate)
    assert (result["p99_ratio"], result["garbage"]["sent"] > 0) == (1.0, True)


def test_cache_divides_rows_per_request(monkeypatch):
    rows = iter([30_000, 15_000])
    monkeypatch.setattr(ratios, "routed_ends", lambda bootstrap: {0: 1})
    monkeypatch.setattr(ratios, "count_routed_rows", lambda bootstrap, ends: next(rows))
    bench = FakeBench()
    result = ratios.cache(bench)
    assert (result["executor_rows_ratio"], result["rate_ratio"]) == (0.5, 1.0)
    assert [phase.phase.loads[0].repeats for phase in bench.phases] == [0.0, 0.5]
    assert len(bench.cached) == 12
