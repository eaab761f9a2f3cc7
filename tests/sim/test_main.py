"""``python -m tests.sim``: the same worlds in every process, and exit code 1 with the story when something breaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.sim import __main__ as program
from tests.sim.planted import PLANTED, plant
from tests.sim.profile import FAULTS
from tests.sim.worlds import run_world

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]


def digest(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--steps", "1", "--seed", "5"],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"digest ([0-9a-f]{16})", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def test_a_seed_replays_in_another_process() -> None:
    assert digest("1") == digest("2") == run_world(5).digest[:16]


def test_a_violation_is_told_with_its_seed_and_story(capsys: pytest.CaptureFixture[str]) -> None:
    with plant(PLANTED["the edge commits before its frames stand"]):
        assert program.main(["--steps", "20000", "--seed", "1"]) == 1
    said = capsys.readouterr().out
    assert "committed offsets never pass unfinished work" in said
    assert "the last steps:" in said
    assert re.search(r"again: python -m tests.sim --steps 1 --seed \d+", said)


def test_two_processes_run_the_same_worlds_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    summaries = []
    for jobs in ("1", "2"):
        assert program.main(["--steps", "9000", "--seed", "40", "--jobs", jobs]) == 0
        said = capsys.readouterr().out.splitlines()
        summaries.append([re.sub(r", \d+ s,", "", line) for line in said[1:]])
    assert summaries[0] == summaries[1]


def test_a_fault_that_never_happened_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(dict.fromkeys(FAULTS, 1))
    assert program.conclude(1, 1, program.ALL_FAULTS, 1.0, counts) == 0
    counts["crash"] = 0
    assert program.conclude(1, 1, program.ALL_FAULTS, 1.0, counts) == 1
    assert "never happened: crash" in capsys.readouterr().out
