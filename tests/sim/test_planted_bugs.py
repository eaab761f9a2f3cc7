"""The simulation finds what it is there for: each planted bug, by the invariant that it breaks, with a seed that replays."""

from __future__ import annotations

import pytest

from tests.sim.invariants import COMMIT, ONE_RESULT, ONE_WRITER, PLANNED
from tests.sim.scheduler import Simulation
from tests.sim.world import Bugs

pytestmark = pytest.mark.sim

MAX_STEPS = 20_000
SEEDS = (1, 2, 3)
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
def test_without_the_bug_the_same_seed_is_clean(seed: int) -> None:
    report = Simulation(seed).run(MAX_STEPS // 4)
    assert report.violation is None, report.text()
