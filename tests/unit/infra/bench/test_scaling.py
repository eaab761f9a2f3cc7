"""What is concluded from replica steps, and the shape of the sine."""

import pytest

from infra.bench.models import mlps
from infra.bench.phase import Phase
from infra.bench.scaling import NUM_PERIODS, PERIOD_S, SINE, changes, first_after, reversals, sine
from schemas.scaling import ScaleAction, ScaleConfirmation
from tests.support.fake_bench import measured

BEGUN_US = 1_000_000  # of the fake's schedule


def action(at_s, current, target, decision=None):
    decision = decision or ("scale_up" if target > current else "scale_down")
    return ScaleAction(f"a{at_s}", "executors", decision, current, target, "load", int(BEGUN_US + at_s * 1e6))


def confirmation(at_s, took_s, replicas, outcome="done"):
    return ScaleConfirmation(f"a{at_s}", "executors", replicas, outcome, int(BEGUN_US + (at_s + took_s) * 1e6))


def test_steps_are_told_on_the_clock_of_the_load_with_what_became_of_them():
    phase = measured(Phase("step", mlps(1)[:1], warmup_s=0.0, steps=((10.0, 30.0),)), 5.0)
    actions = [
        action(-5.0, 1, 2),
        action(1.0, 1, 1, "hold"),
        action(12.5, 1, 3),
        action(20.0, 3, 2),
        action(25.0, 2, 3),
        action(40.0, 3, 1),
    ]
    found = changes(actions, [confirmation(12.5, 4.25, 3), confirmation(20.0, 1.0, 3, "failed")], phase)
    assert [(each["t_s"], each["from"], each["to"], each["outcome"], each["took_s"]) for each in found] == [
        (12.5, 1, 3, "done", 4.25),
        (20.0, 3, 2, "failed", 1.0),
        (25.0, 2, 3, "none", None),
    ]
    assert first_after(found, 10.0) == 6.75
    assert first_after(found, 13.0) is None
    assert reversals(found) == 2
    assert reversals(found[:1]) == 0


def test_the_sine_begins_and_ends_low_and_has_its_bounds():
    steps = sine(100.0)
    rates = [rate for rate, _ in steps]
    assert sum(seconds for _, seconds in steps) == PERIOD_S * NUM_PERIODS
    assert min(rates) == pytest.approx(100 * SINE[0], rel=0.02)
    assert max(rates) == pytest.approx(100 * SINE[1], rel=0.02)
    assert rates[0] == pytest.approx(rates[-1])
