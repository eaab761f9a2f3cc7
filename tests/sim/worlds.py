"""Worlds one after the other, in this process or in several; in the order of their seeds either way."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.sim.scheduler import Report, Simulation

WORLD_STEPS = 2_500
BATCH = 8


def run_world(seed: int) -> Report:
    """One world to its end."""
    logging.getLogger("streams").setLevel(logging.CRITICAL)  # it warns of what is simulated here
    logging.getLogger("executors").setLevel(logging.CRITICAL)
    logging.getLogger("infra").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        return Simulation(seed).run(WORLD_STEPS)
    except Exception as error:
        error.add_note(f"again: python -m tests.sim --steps 1 --seed {seed}")
        raise


def reports(seed: int, jobs: int) -> Iterator[Report]:
    """Reports of the worlds from ``seed`` on, in the order of their seeds, without an end."""
    if jobs < 2:
        while True:
            yield run_world(seed)
            seed += 1
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        while True:  # a few worlds ahead of what was asked for, not all of an endless row
            yield from pool.map(run_world, range(seed, seed + BATCH * jobs))
            seed += BATCH * jobs
