"""``isos down``: stop the stack of the data directory and wait until it is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import typer

from infra.audit_actor import audited_here
from infra.commands.output import examples, new_app, settings_of
from infra.settings import Settings, StartError
from infra.stack_state import is_running, read_state

app = new_app()
_CLEAN_S = 30.0


@app.command(epilog=examples("isos down", "isos --data-dir /srv/isos down"))
def down(ctx: typer.Context) -> None:
    """Stop the local stack and wait until it is gone. Nothing running is no error. Exit code 5 when it does not end."""
    settings = settings_of(ctx)
    if not is_running(settings):
        print("nothing is running", file=sys.stderr)
        return
    with audited_here(settings, "stack.down"):
        print("stopped" if stop_stack(settings) else "nothing is running", file=sys.stderr)


def stop_stack(settings: Settings) -> bool:
    """Stop the supervisor of the data directory, by force after 30 s; False when none is running.

    Raises:
        StartError: with exit code 5, when it holds its lock also after that.
    """
    if not is_running(settings):
        return False
    pid = int(read_state(settings).get("supervisor", {}).get("pid", 0))
    for number in (signal.SIGTERM, signal.SIGKILL):
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
        give_up = time.monotonic() + _CLEAN_S
        while is_running(settings) and time.monotonic() < give_up:
            time.sleep(0.05)
        if not is_running(settings):
            return True
    raise StartError(f"The stack in {settings.data_dir} does not end; its supervisor is process {pid}.", exit_code=5)
