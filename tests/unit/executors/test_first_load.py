"""The throw-away process: it is confined before it reads the blob, and answers in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from executors.first_load import MIB, Trial
from tests.support import models


def run(trial: Trial, blob: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "executors.first_load"],
        input=trial.to_line() + blob,
        capture_output=True,
        check=False,
        timeout=60,
    )


def trial(parent_pid: int | None = None) -> Trial:
    return Trial(os.getpid() if parent_pid is None else parent_pid, 4096 * MIB, 20, {"x": (4,)}, (1, 2))


def test_the_trial_survives_its_line() -> None:
    assert Trial.from_line(trial().to_line()) == trial()


def test_findings() -> None:
    found = json.loads(run(trial(), models.identity()).stdout)
    assert found["inputs"] == [{"name": "x", "type": "tensor(float)", "shape": ["n", 4]}]
    assert found["runs"] == [{"y": [1, 4]}, {"y": [2, 4]}]
    assert "error" not in found


def test_an_unreadable_blob_is_an_error_not_a_crash() -> None:
    done = run(trial(), b"garbage")
    assert done.returncode == 0
    assert json.loads(done.stdout)["error"]


def test_an_orphan_ends_itself() -> None:
    done = run(trial(parent_pid=1 << 30), models.identity())
    assert done.returncode != 0
    assert b"the parent is gone" in done.stderr


def test_the_limits_are_in_force_before_the_blob_is_read() -> None:
    program = (
        "import resource, sys, executors.first_load as f\n"
        "f.confine(f.Trial.from_line(sys.stdin.buffer.readline()))\n"
        "print(*(resource.getrlimit(x)[0] for x in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=trial().to_line(), capture_output=True, check=True)
    assert done.stdout.split() == [str(4096 * MIB).encode(), b"20", b"0"]
