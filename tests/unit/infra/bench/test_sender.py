"""The pieces of a run; sending is in tests/integration/test_load.py."""

from infra.bench.config import Config
from infra.bench.sender import pieces


def config(**changed):
    return Config("b", 1, (), 100.0, "out", "r", **changed)


def test_a_run_of_one_rate():
    assert pieces(config(seconds=3.0)) == ((100.0, 3.0),)


def test_without_an_end_it_is_the_limit():
    assert pieces(config(limit_s=60.0)) == ((100.0, 60.0),)


def test_steps_take_the_place_of_the_rate_and_are_cut_at_the_limit():
    steps = ((10.0, 2.0), (20.0, 2.0), (30.0, 2.0))
    assert pieces(config(steps=steps)) == steps
    assert pieces(config(steps=steps, limit_s=3.0)) == ((10.0, 2.0), (20.0, 1.0))
