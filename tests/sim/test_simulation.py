"""All data-plane agents and the control plane's core under a seeded scheduler: nothing broken in 20,000 steps."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from tests.sim.invariants import ONE_RESULT
from tests.sim.scheduler import Rates, Report, Simulation
from tests.sim.violation import Violation
from tests.sim.world import Bugs

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

STEPS = 20_000
FIXED_SEED = 20_250_101
COVERED = (
    "crashes",
    "freezes",
    "rebalances",
    "duplicates",
    "sends of unknown fate",
    "refused writes",
    "deferred",
    "scans",
    "take-overs",
    "orchestrator took over",
    "planner took over",
    "result OK",
    "result execution_failed",
    "result output_invalid",
    "result deadline_exceeded",
    "result garbage",
)


def simulate(seed: int) -> Report:
    print(f"\nsimulating {STEPS} steps; python -m tests.sim --steps {STEPS} --seed {seed} replays them", flush=True)
    report = Simulation(seed).run(STEPS)
    print(report.text())
    assert report.violation is None, report.text()
    assert report.steps >= STEPS
    return report


def test_no_invariant_is_violated_with_the_fixed_seed() -> None:
    report = simulate(FIXED_SEED)
    assert [what for what in COVERED if not report.counts.get(what)] == [], report.counts


def test_no_invariant_is_violated_with_a_random_seed() -> None:
    report = simulate(secrets.randbits(48))
    assert report.counts["result OK"] > 100


def test_a_seed_replays_its_run() -> None:
    first, second, other = (Simulation(seed).run(3_000) for seed in (7, 7, 8))
    assert (first.digest, first.steps, first.counts) == (second.digest, second.steps, second.counts)
    assert other.digest != first.digest


def test_a_violation_is_found_again_by_its_seed() -> None:
    reports = [Simulation(3, Bugs(no_fence=True)).run(STEPS) for _ in range(2)]
    assert reports[0].violation is not None
    assert reports[0].digest == reports[1].digest
    assert reports[0].story == reports[1].story
    assert str(reports[0].violation) == str(reports[1].violation)


def test_without_faults_everything_ends_soon() -> None:
    rates = replace(Rates(), fault=0.0, recovery=0.0)
    report = Simulation(11, rates=rates).run(5_000)
    assert report.violation is None, report.text()
    assert "crashes" not in report.counts
    assert report.counts["result OK"] > 100


def test_the_check_at_the_end_misses_no_request() -> None:
    simulation = Simulation(12)
    report = simulation.run(2_000)
    assert report.violation is None, report.text()
    partition = max(simulation.client.requests, key=lambda each: len(simulation.client.requests[each]))
    simulation.client.requests[partition].add(max(simulation.client.requests[partition]) + 1)
    with pytest.raises(Violation) as caught:
        simulation.invariants.final()
    assert caught.value.invariant == ONE_RESULT
