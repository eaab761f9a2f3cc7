"""The simulation finds what it is there for: each planted bug, by the invariant that it breaks."""

from __future__ import annotations

import pytest

from tests.sim.invariants import CHECKPOINT, COMMIT, FOLD, ONE_RESULT, ONE_WRITER, PLANNED
from tests.sim.scheduler import Simulation
from tests.sim.world import Bugs

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

MAX_STEPS = 20_000
SEEDS = (1, 2)
PLANTED = {
    "the edge commits past in-flight records": (Bugs(commit_past="edge"), (COMMIT,)),
    "the Router commits past in-flight records": (Bugs(commit_past="router"), (COMMIT,)),
    "the executor commits past in-flight records": (Bugs(commit_past="executor"), (COMMIT,)),
    "the Validator commits past in-flight records": (Bugs(commit_past="validator"), (COMMIT,)),
    "a second writer, because the fence is off": (Bugs(no_fence=True), (ONE_WRITER, ONE_RESULT)),
    "the Router routes before the plan is in memory": (Bugs(route_before_plan=True), (PLANNED,)),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found(name: str, seed: int) -> None:
    bugs, invariants = PLANTED[name]
    report = Simulation(seed, bugs).run(MAX_STEPS)
    print(f"\n{name}: seed {seed}, step {report.steps}: {report.violation}")
    assert report.violation is not None, f"seed {seed}: {name}, and {report.steps} steps did not show it"
    assert report.violation.invariant in invariants, report.text()
    assert report.story


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_fence_requests_are_answered_twice(seed: int) -> None:
    report = Simulation(seed, Bugs(no_fence=True), muted=(ONE_WRITER, CHECKPOINT, FOLD)).run(MAX_STEPS)
    assert report.violation is not None
    assert report.violation.invariant == ONE_RESULT
    assert "second result" in report.violation.what


def test_an_impatient_reaper_answers_what_was_lost() -> None:
    bugs = Bugs(commit_past="executor", give_up_us=20_000_000)
    report = Simulation(1, bugs, muted=(COMMIT,)).run(MAX_STEPS // 4)
    assert report.violation is None, report.text()
    assert report.counts["result lost"] > 0
