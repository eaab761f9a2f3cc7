"""Scenarios are what the issue of the house asks for."""

from infra.bench.scenario import SCENARIOS


def test_named_scenarios():
    smoke, headline = SCENARIOS["smoke"], SCENARIOS["headline"]
    assert (smoke.num_models, smoke.rate, smoke.seconds) == (1, 2_000, 15)
    assert (headline.num_models, headline.rate, headline.seconds) == (12, 1_850, 60)
    assert (headline.max_mean_ms, headline.max_p99_ms) == (47, 100)


def test_a_row_is_one_kib_and_every_model_has_its_name():
    loads = SCENARIOS["headline"].loads
    assert {load.row_bytes for load in loads} == {1024}
    assert [load.model for load in loads][::11] == ["bench-00", "bench-11"]
    assert len({load.model for load in loads}) == 12
