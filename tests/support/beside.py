"""Two targets of the Makefile beside each other: ``python -m tests.support.beside QUIET LOUD``.

LOUD runs as it would alone, with its output on the terminal: it waits more than it works, and has the processor when it
wants it. QUIET runs beside it with what is left (``nice``); its output is shown when LOUD has ended. Exits with the
first failure; where LOUD fails, QUIET is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

LOWEST: Final = 19
MAKE: Final = ("make", "--no-print-directory")


def run(quiet: Sequence[str], loud: Sequence[str]) -> int:
    """Run two commands; the exit status as above."""
    with tempfile.TemporaryFile() as output:
        beside = subprocess.Popen(
            ["nice", "-n", str(LOWEST), *quiet], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = subprocess.run(loud, check=False).returncode or beside.wait()
        finally:
            if beside.poll() is None:
                os.killpg(beside.pid, signal.SIGTERM)
                beside.wait()
            output.seek(0)
            sys.stdout.flush()
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(run((*MAKE, sys.argv[1]), (*MAKE, sys.argv[2])))
