"""``python -m tests.sim``: the same run in every process, and exit code 1 with the story when something breaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.sim import __main__ as program
from tests.sim.scheduler import Simulation
from tests.sim.world import Bugs

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]


def digest(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--steps", "1500", "--seed", "5"],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"digest ([0-9a-f]{16})", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def test_a_seed_replays_in_another_process() -> None:
    assert digest("1") == digest("2")


def test_a_violation_is_told_with_its_seed_and_story(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "Simulation", partial(Simulation, bugs=Bugs(route_before_plan=True)))
    assert program.main(["--steps", "20000", "--seed", "1"]) == 1
    said = capsys.readouterr().out
    assert "routed by the plan in memory" in said
    assert "the last steps:" in said
    assert "replay: python -m tests.sim --steps 20000 --seed 1" in said
