"""A supervisor with stand-in roles, run as a process: ``python -m tests.support.dummy_stack ready|slow|busy``.

``ready`` roles become ready at once; ``slow`` ones take a second and need two to stop; ``busy`` ones keep the broker
and Redis under load and leave a child of their own in their process group.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from infra.settings import StartError, load_settings
from infra.stack import Role, run_stack


def be_role(kind: str) -> None:
    """Be one stand-in role until SIGTERM."""
    name = os.environ["ISOS_PROCESS_NAME"]
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    child = subprocess.Popen(["/bin/sleep", "600"]) if kind == "busy" else None
    if kind == "slow":
        time.sleep(1)
    path = Path(os.environ["ISOS_DATA_DIR"]) / "run" / f"{name}.ready"
    path.write_text(json.dumps({"pid": os.getpid(), "ready_us": time.time_ns() // 1000}))
    while not ended:
        if child is not None:
            sum(range(20_000))
        time.sleep(0.01)
    if kind == "slow":
        time.sleep(2)


def main(kind: str) -> int:
    """Run the stack with two stand-in roles."""
    roles = tuple(
        Role(name, (sys.executable, "-m", "tests.support.dummy_stack", "role", kind)) for name in ("alpha", "beta")
    )
    try:
        run_stack(
            load_settings(), roles=roles, report=lambda name, event, s: print(f"{s:.2f} {name} {event}", flush=True)
        )
    except StartError as error:
        print(error, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "role":
        be_role(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1]))
