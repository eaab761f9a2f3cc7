"""The demonstration with its stack left up until its processes are old enough, then down: ``... quiet_demo SECONDS``.

For a test that watches the network: what a library does behind our backs starts seconds after its import.
"""

from __future__ import annotations

import subprocess
import sys
import time

from infra.demo import run
from infra.running_stack import running_stack
from infra.settings import load_settings
from infra.stack_state import read_state


def main(age_s: float) -> int:
    """Run it; the demonstration's exit code."""
    settings = load_settings()
    with running_stack(settings):
        status = run(settings, keep=True, started_at=time.time())
        youngest_s = max(row["started_us"] for row in read_state(settings)["processes"]) / 1e6
        while time.time() - youngest_s < age_s:
            time.sleep(0.1)
        subprocess.run([sys.executable, "-m", "infra.cli", "status"], check=True)
    return status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
