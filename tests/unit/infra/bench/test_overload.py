"""What is concluded from an overload and from a step, on runs made by hand."""

import numpy as np
import pytest

from infra.bench.models import mlps
from infra.bench.overload import AFTER_S, BEFORE_S, OVER_S, judged, step
from infra.bench.phase import Phase
from infra.settings import StartError
from tests.support.fake_bench import FakeBench, measured

RATE = 100.0
STEPS = ((50.0, BEFORE_S), (150.0, OVER_S), (50.0, AFTER_S))
NUM_BEFORE, NUM_OVER = int(50 * BEFORE_S), int(150 * OVER_S)


def test_goodput_refusals_and_recovery():
    size = NUM_BEFORE + NUM_OVER + int(50 * AFTER_S)
    numbers = np.arange(size)
    over = (numbers >= NUM_BEFORE) & (numbers < NUM_BEFORE + NUM_OVER)
    refused = over & (numbers % 3 == 0)
    slow = (numbers >= NUM_BEFORE + NUM_OVER) & (numbers < NUM_BEFORE + NUM_OVER + 60)  # 1.2 s at 50/s
    latency = np.where(refused, 30.0, np.where(slow, 1_500.0, 5.0))
    run = measured(Phase("overload", mlps(1)[:1], warmup_s=0.0, steps=STEPS), latency, np.where(refused, 3, 1))
    found = judged(run, RATE)
    assert found["goodput_ratio"] == pytest.approx(1.0, abs=0.01)
    assert (found["refusal_p50_ms"], found["refusal_p99_ms"]) == (30.0, 30.0)
    assert found["recovery_s"] == 1.5
    assert found["during"]["rejected"] == NUM_OVER // 3


def test_no_recovery_and_no_refusal_are_none():
    run = measured(Phase("overload", mlps(1)[:1], warmup_s=0.0, steps=STEPS), 2_000.0)
    found = judged(run, RATE)
    assert (found["recovery_s"], found["refusal_p99_ms"]) == (None, None)


def test_a_step_that_is_carried_settles_at_once():
    bench = FakeBench(4_000)
    result = step(bench)
    assert (result["up_settled_s"], result["down_settled_s"]) == (0.0, 0.0)
    assert bench.phases[-1].phase.steps[1][0] == pytest.approx(0.9 * result["capacity_rps"], abs=0.1)
    with pytest.raises(StartError, match="nothing to step up to"):
        step(FakeBench(0))
