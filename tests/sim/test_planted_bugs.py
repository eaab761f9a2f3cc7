"""The simulation finds what it is there for: each bug planted in the real code, by a rule that it breaks."""

from __future__ import annotations

import gc
import logging
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice

import pytest

from tests.sim.planted import PLANTED, Planted, plant
from tests.sim.profile import Profile
from tests.sim.scheduler import Report, Simulation

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

WORLD_STEPS = 2_500
MAX_WORLDS = 40


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nobody wants to read the warnings of simulated trouble."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def forget_ended_worlds() -> None:
    """End what bugs left behind in worlds before, which would else end in the middle of the next one."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # that it complains then is the bugs' doing
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


def world(seed: int, bug: Planted) -> Report:
    """One world of the kind in which the bug shows."""
    forget_ended_worlds()
    profile = replace(Profile.drawn(random.Random(seed)), **bug.world) if bug.world else None
    return Simulation(seed, profile).run(WORLD_STEPS)


def seeds(bug: Planted) -> list[int]:
    """The worlds that a bug is looked for in: those with a data plane alone, unless it says otherwise."""
    fit = (seed for seed in count(1) if "control" in bug.world or not Profile.drawn(random.Random(seed)).control)
    return list(islice(fit, MAX_WORLDS))


@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found_and_its_seed_replays(name: str) -> None:
    bug = PLANTED[name]
    steps = 0
    for seed in seeds(bug):
        with plant(bug):
            report = world(seed, bug)
        steps += report.steps
        if report.violation is not None:
            break
    print(f"\n{name}: seed {seed}, {steps} steps: {report.violation}")
    assert report.violation is not None, f"{name}: {steps} steps did not show it"
    assert report.violation.invariant in bug.rules, report.text()
    assert report.story
    with plant(bug):
        again = world(seed, bug)
    assert (again.digest, str(again.violation), again.story) == (report.digest, str(report.violation), report.story)
    clean = world(seed, bug)
    assert clean.violation is None, clean.text()


def test_there_are_more_than_ten_of_the_data_plane() -> None:
    assert (
        sum(bug.owner.__module__.startswith("streams") for bug in PLANTED.values() if hasattr(bug.owner, "__module__"))
        > 10
    )
