"""The table of scenarios, and how a target is judged."""

from infra.bench.scenario import SCENARIOS, Target
from infra.settings import load_settings

NAMES = (
    *("smoke", "headline", "tenfold", "capacity", "step", "overload", "growth", "payload", "images", "priority"),
    *("isolation", "garbage", "cache", "scaling", "idle"),
)


def test_scenarios_and_their_keys():
    assert tuple(SCENARIOS) == NAMES
    keys = {"overload": "goodput_ratio", "growth": "cpu_ratio", "cache": "executor_rows_ratio"}
    assert {name: SCENARIOS[name].key for name in keys} == keys
    assert {SCENARIOS[name].key for name in ("isolation", "priority", "garbage")} == {"p99_ratio"}


def test_only_where_more_is_offered_than_carried_may_requests_be_refused():
    refused = {name for name, scenario in SCENARIOS.items() if not scenario.all_ok}
    assert refused == {"tenfold", "capacity", "step", "overload", "priority", "garbage", "scaling"}


def test_what_a_scenario_needs_are_settings():
    for scenario in SCENARIOS.values():
        settings = load_settings(**dict(scenario.needs))
        assert all(getattr(settings, name) == value for name, value in scenario.needs)


def test_targets():
    assert Target("p99_ms", 47).met(47)
    assert not Target("p99_ms", 47).met(47.1)
    assert Target("goodput_ratio", 0.9, "at least").met(0.9)
    assert not Target("goodput_ratio", 0.9, "at least").met(0.89)
    assert not Target("p99_ms", 47).met(None)
