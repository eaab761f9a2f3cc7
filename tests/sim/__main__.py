"""``python -m tests.sim --steps N [--seed S]``: run the simulation in rounds and stop at the first violation.

A seed names one round of at most ``ROUND`` steps; the first round runs the seed that was given (or a random one), the
others those after it. Exit code 1 on a violation, with the seed, the step, the invariant and the last steps.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time

from tests.sim.scheduler import Simulation

ROUND = 20_000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Run the simulation of all agents.")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps in all")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first round; a random one if not given")
    given = parser.parse_args(arguments)
    seed = secrets.randbits(48) if given.seed is None else given.seed
    logging.getLogger("streams").setLevel(logging.ERROR)  # it warns of what is simulated here
    done, began = 0, time.perf_counter()
    while done < given.steps:
        steps = min(ROUND, given.steps - done)
        report = Simulation(seed).run(steps)
        done += steps
        print(f"{report.text()}  [{done} of {given.steps} steps, {time.perf_counter() - began:.0f} s]", flush=True)
        if report.violation is not None:
            print(f"replay: python -m tests.sim --steps {steps} --seed {seed}")
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
