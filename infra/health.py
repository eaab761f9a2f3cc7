"""Tell whether a process of ours serves: ``python -m infra.health [NAME]``, the health check of the container image.

It reads the readiness file that the process itself wrote, and asks the kernel whether that very process still runs.
The process touches the file every second from its event loop, so one that hangs is found too. Only ``ISOS_DATA_DIR``
and ``ISOS_PROCESS_NAME`` are read. Standard library only: it is run every few seconds beside what it watches.

Exit status 0 when the process serves, 1 when it does not; one line on stdout says why.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

BEAT_S: Final = 1.0
MAX_SILENCE_S: Final = 30.0
"""A model that loads may keep its executor's event loop busy for some seconds."""

_STATE, _START_TICKS = 0, 19  # fields of /proc/PID/stat behind the command's name


def start_ticks(pid: int) -> int | None:
    """Give the time at which a process started, in clock ticks since boot; None when it is gone."""
    fields = _stat(pid)
    return int(fields[_START_TICKS]) if fields else None


def unhealthy_because(path: Path, now_s: float) -> str | None:
    """Say why the process of a readiness file does not serve; None when it does. ``now_s``: seconds since the epoch."""
    try:
        written = json.loads(path.read_text())
        silence_s = now_s - path.stat().st_mtime
        pid, started = int(written["pid"]), written.get("start_ticks")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "it is not ready yet"
    fields = _stat(pid)
    if not fields or fields[_STATE] in "ZX" or started != int(fields[_START_TICKS]):
        return f"process {pid} has ended"
    if fields[_STATE] in "Tt":
        return f"process {pid} is stopped"
    if silence_s > MAX_SILENCE_S:
        return f"process {pid} has not stirred for {silence_s:.0f} s"
    return None


def main(arguments: list[str]) -> int:
    """Print one line and give the exit status."""
    name = arguments[0] if arguments else os.environ.get("ISOS_PROCESS_NAME", "")
    if len(arguments) > 1 or not name:
        print("Say whose health: python -m infra.health NAME, or ISOS_PROCESS_NAME.")
        return 2
    folder = Path(os.environ.get("ISOS_DATA_DIR") or ".isos") / "run"
    reason = unhealthy_because(folder / f"{name}.ready", time.time())
    print(f"{name} serves" if reason is None else f"{name} does not serve: {reason}")
    return 0 if reason is None else 1


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
