"""Run the load generator as a process and look at all processes meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from infra.bench.config import Config
from infra.bench.generator import read_columns
from infra.bench.phase import Measured, Phase
from infra.bench.processes import Sample, sample
from infra.child_environment import child_environment
from infra.settings import Settings, StartError
from infra.stack_state import read_state

GENERATOR: Final = "generator"


class GeneratorError(StartError):
    """The load generator ended before its time; the sentence is what it said last."""


def generate(phase: Phase, config: Config, settings: Settings) -> Measured:
    """Run the generator as ``config`` says. Raised: GeneratorError."""
    path = Path(f"{config.out}.config.json")
    config.write(path)
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.bench.generator", str(path)],
        env=child_environment(settings, os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise GeneratorError("The load generator did not start; see above.", exit_code=1)
        begun = time.monotonic()
        looks = look(lambda: {**process_ids(settings), GENERATOR: process.pid}, process.stdout)
        if process.wait(config.drain_s + 60) != 0:
            raise GeneratorError("The load generator failed; see above.", exit_code=1)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    summary = json.loads(Path(f"{config.out}.json").read_text(encoding="utf-8"))
    sent, matched = read_columns(Path(f"{config.out}.npz"))
    return Measured(phase, summary, sent, matched, looks, begun)


def look(pids: Callable[[], dict[str, int]], lines: IO[str]) -> list[Sample]:
    """Look at the processes now and with each line of progress (a second), and pass the progress on.

    ``pids``: those that run now, for scaling starts and ends some.
    """
    looks = [sample(pids())]
    for line in lines:
        print(line.strip(), end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
        if not line.startswith("sent "):
            break
        looks.append(sample(pids()))
    return looks


def process_ids(settings: Settings) -> dict[str, int]:
    """Process ids of the running stack by name, the supervisor's too."""
    state = read_state(settings)
    found = {row["name"]: int(row["pid"]) for row in state.get("processes", []) if row.get("pid")}
    supervisor = state.get("supervisor", {}).get("pid")
    return {**found, "supervisor": int(supervisor)} if supervisor else found
