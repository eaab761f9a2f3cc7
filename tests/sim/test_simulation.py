"""The agents' real loops in simulated worlds: nothing broken, every fault seen, each seed the same run."""

from __future__ import annotations

import logging
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice, product

import pytest

from streams import partition_log, run_effects, run_window
from tests.sim.invariants import ONE_RESULT
from tests.sim.planted import PLANTED, plant
from tests.sim.planted_control import CALM
from tests.sim.profile import FAULTS, FOCUSES, Profile
from tests.sim.scheduler import Report, Simulation
from tests.sim.substitutes import substituted
from tests.sim.violation import Violation

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

WORLD_STEPS = 2_500
WORLDS = 25
FIXED_SEED = 20_250_101
COVERED = (
    *FAULTS,
    "blobs stored",
    "earlier answers",
    "ended by itself",
    "redis calls refused",
    "refused calls",
    "refused writes",
    "rows of canaries",
    "result OK",
    "result deadline_exceeded",
    "result duplicate_in_flight",
    "result execution_failed",
    "result garbage",
    "result id_conflict",
    "result null_value",
    "result memory_silent",
    "result output_invalid",
    "result quota_exceeded",
)

CONTROLLED = (
    "alert clock_skew",
    "alert forged_memory",
    "alert forged_memory resolved",
    "alert memory_silent",
    "alert memory_silent resolved",
    "alert process_silent",
    "memory CanarySet",
    "memory CanaryTakenBack by itself",
    "memory CommandRejected",
    "memory ReviewApproved",
    "memory ReviewOpened",
    "memory VersionMarkedGood",
    "memory VersionRolledBack by itself",
    "refused writes",
    "scale_down",
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nobody wants to read the warnings of simulated trouble."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def simulate(seed: int, steps: int = WORLD_STEPS) -> Report:
    report = Simulation(seed).run(steps)
    assert report.violation is None, f"{report.text()}\nagain: python -m tests.sim --steps 1 --seed {seed}"
    assert report.steps >= steps
    return report


def test_fixed_worlds_hold_and_cover_every_fault() -> None:
    counts = Counter[str]()
    for seed in range(FIXED_SEED, FIXED_SEED + WORLDS):
        counts.update(simulate(seed).counts)
    print(f"\nseeds from {FIXED_SEED} on: {dict(sorted(counts.items()))}")
    assert [what for what in COVERED if not counts[what]] == []


def test_worlds_of_the_control_plane_hold_and_cover_what_it_does() -> None:
    """Some as their seeds draw them, and calm ones in which agents come far, by what is told of most."""
    seeds = (seed for seed in count(FIXED_SEED) if Profile.drawn(random.Random(seed)).control)
    counts = Counter[str]()
    for seed in islice(seeds, 4):
        counts.update(simulate(seed).counts)
    for focus, seed in (*product(FOCUSES, (3, 4)), *(("roll-backs", seed) for seed in range(5, 10))):
        calm = {**CALM, "focus": focus, "production": focus == "reviews"}
        report = Simulation(seed, replace(Profile.drawn(random.Random(seed)), **calm)).run(WORLD_STEPS)
        assert report.violation is None, report.text()
        counts.update(report.counts)
    print(f"\n{dict(sorted(counts.items()))}")
    assert [what for what in CONTROLLED if not counts[what]] == []


def test_a_random_world_holds() -> None:
    simulate(secrets.randbits(40))


def test_a_seed_replays_its_run() -> None:
    first, second, other = (simulate(seed) for seed in (7, 7, 8))
    assert (first.digest, first.steps, first.counts) == (second.digest, second.steps, second.counts)
    assert other.digest != first.digest


def test_a_world_leaves_nothing_behind() -> None:
    """What runs before in the same process makes no difference, planted bugs included."""
    first = simulate(9)
    with plant(PLANTED["the fence is dropped"]):
        Simulation(1).run(WORLD_STEPS)
    assert simulate(9).digest == first.digest


def test_without_faults_everything_ends_soon() -> None:
    report = Simulation(11, Profile.quiet(random.Random(11))).run(5_000)
    assert report.violation is None, report.text()
    assert not any(report.counts.get(fault) for fault in FAULTS)
    assert report.counts["result OK"] > 100


def test_the_check_at_the_end_misses_no_request() -> None:
    simulation = Simulation(13)
    report = simulation.run(WORLD_STEPS)
    assert report.violation is None, report.text()
    partition = max(simulation.client.requests, key=lambda each: len(simulation.client.requests[each]))
    simulation.client.requests[partition].add(max(simulation.client.requests[partition]) + 1)
    with pytest.raises(Violation) as caught:
        simulation.invariants.final()
    assert caught.value.invariant == ONE_RESULT


def test_the_real_clients_are_back_afterwards() -> None:
    names = ((partition_log, "FencedWriter"), (run_effects, "time"), (run_window, "WINDOW"))
    before = [getattr(module, name) for module, name in names]
    with substituted(Simulation(1).world):
        inside = [getattr(module, name) for module, name in names]
    assert not any(one is other for one, other in zip(before, inside, strict=True))
    assert before == [getattr(module, name) for module, name in names]
