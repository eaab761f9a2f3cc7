"""``python -m tests.sim --steps N [--seed S]``: many short worlds, each of a seed; stop at the first violation.

Each seed draws its own mixture of faults (``tests.sim.profile``). Worlds run in ``--jobs`` processes; which worlds
there are depends on the first seed and the steps alone. At the end it says how many steps and seeds ran and how often
each fault happened. Exit code 1 on a violation, with its seed, its step, the invariant, what was told of the request or
partition at fault, the last steps, and the command that runs that seed again; also when a fault never happened in a run
of ``ALL_FAULTS`` steps or more.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter

from tests.sim.profile import FAULTS
from tests.sim.worlds import WORLD_STEPS, reports

ALL_FAULTS = 100_000
SAY_EVERY = 50


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Run the simulation of all agents.")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps in all, at least")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first world; a random one if not given")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    seed = secrets.randbits(40) if given.seed is None else given.seed
    print(f"simulating at least {given.steps} steps from seed {seed} on, {given.jobs} processes", flush=True)
    began, steps, worlds, counts = time.perf_counter(), 0, 0, Counter[str]()
    for report in reports(seed, given.jobs):
        steps += report.steps
        worlds += 1
        counts.update(report.counts)
        if report.violation is not None:
            print(report.text())
            print(f"again: python -m tests.sim --steps 1 --seed {report.seed}")
            return 1
        if given.steps <= WORLD_STEPS:
            print(report.text())
        elif worlds % SAY_EVERY == 0:
            print(
                f"seeds {seed} to {seed + worlds - 1}: {steps} steps, {steps / _since(began):.0f} steps/s", flush=True
            )
        if steps >= given.steps:
            break
    return conclude(seed, worlds, steps, _since(began), counts)


def conclude(seed: int, worlds: int, steps: int, seconds: float, counts: Counter[str]) -> int:
    """Say what was covered."""
    print(f"{steps} steps in {worlds} worlds, seeds {seed} to {seed + worlds - 1}, {seconds:.0f} s, no violation")
    print("faults: " + ", ".join(f"{fault} {counts[fault]}" for fault in FAULTS))
    others = sorted(name for name in counts if name not in FAULTS)
    print("also: " + ", ".join(f"{name} {counts[name]}" for name in others))
    never = [fault for fault in FAULTS if not counts[fault]]
    if never and steps >= ALL_FAULTS:
        print(f"these faults never happened: {', '.join(never)}")
        return 1
    return 0


def _since(began: float) -> float:
    return max(1e-9, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
