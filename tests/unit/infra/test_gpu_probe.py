"""The probe says what is claimed and what is true, as one JSON line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_claim_and_truth_are_two_things() -> None:
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.gpu_probe"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert seen["version"].startswith("1.31.")
    assert {type(seen["claims_cuda"]), type(seen["got_cuda"])} == {bool}
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        assert seen["got_cuda"] is False
