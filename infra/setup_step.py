"""One step of set-up: run a command, several at once, say a line, and fail with one sentence for the person.

Standard library only, as all that runs before anything is installed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable  # noqa: UP035 - older interpreters must get as far as the sentence


class SetupError(Exception):
    """Set-up cannot go on; the text is one sentence for the person."""


def together(jobs: list[Callable[[], None]]) -> None:
    """Run the jobs at the same time; raise the first one's SetupError when all have ended."""
    errors: list[SetupError] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except SetupError as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def run(command: list[str], sentence: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command with its output on stderr; raise SetupError with ``sentence`` when it fails."""
    say("+ " + " ".join(command[:6]) + (" ..." if len(command) > 6 else ""))
    try:
        done = subprocess.run(command, env=environment, cwd=cwd, stdout=sys.stderr, stderr=sys.stderr, check=False)
    except OSError as error:
        raise SetupError(f"{sentence[0].upper()}{sentence[1:]}: {error}.") from error
    if done.returncode != 0:
        raise SetupError(f"{sentence[0].upper()}{sentence[1:]} (exit status {done.returncode}; see above).")


def say(text: str) -> None:
    """Print one line for the person on stderr."""
    print(f"set-up: {text}\n", end="", file=sys.stderr, flush=True)  # one write: jobs run side by side
