"""Fresh processes fold the same events to the same bytes; a million of them by ``python -m tests.sim.memory_fold``."""

from __future__ import annotations

import pytest

from tests.sim import memory_fold
from tests.sim.memory_fold import main

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]


def test_two_fresh_processes_fold_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--events", "5000"]) == 0
    assert '"voids": 0' in capsys.readouterr().out


def test_states_that_differ_are_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(path: object, seed: str) -> dict[str, object]:
        return {"state_sha256": seed, "sequence": 10}

    monkeypatch.setattr(memory_fold, "_elsewhere", another)
    assert main(["--events", "10"]) == 1
