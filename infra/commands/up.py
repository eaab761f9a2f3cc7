"""``isos up``: start the local stack, in the foreground or detached."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Annotated

import typer

from infra.audit_actor import audited_here
from infra.child_environment import child_environment
from infra.commands.output import examples, new_app, settings_of
from infra.settings import Settings, StartError, unwritable
from infra.stack import run_stack
from infra.stack_state import read_state

app = new_app()
_DETACH_S = 240.0


@app.command(
    epilog=examples(
        "isos up",
        "isos up --detach",
        "isos up --environment production",
        "isos --set executors=2 --set broker_port=29092 up",
    )
)
def up(
    ctx: typer.Context,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    environment: Annotated[
        str | None,
        typer.Option(help="sandbox (nobody need approve), staging or production; memory's own is never lowered."),
    ] = None,
) -> None:
    """Start the local stack; Ctrl-C stops it cleanly, a second Ctrl-C at once.

    Exit code 6 when something it needs is missing: a free port, Java, disk, a folder to write to.
    """
    settings = settings_of(ctx, environment=environment)

    def reported(name: str, event: str, seconds: float) -> None:
        report(name, event, seconds)
        if (name, event) == ("stack", "ready"):
            _say_environment(settings)

    with audited_here(settings, "stack.up"):
        if detach:
            up_detached(settings)
            _say_environment(settings)
        else:
            run_stack(settings, report=reported)


def _say_environment(settings: Settings) -> None:
    print(f"Started as {settings.environment}; `isos environment show` says what holds.", file=sys.stderr, flush=True)


def report(name: str, event: str, seconds: float) -> None:
    """Print one line of progress on stderr."""
    print(f"{seconds:7.2f} s  {name:<14} {event}", file=sys.stderr, flush=True)


def up_detached(settings: Settings) -> int:
    """Start a supervisor that outlives this process; return its pid when the stack is ready.

    Raises:
        StartError: with what the supervisor said last, when it ends before it is ready.
    """
    try:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        log = (settings.log_dir / "supervisor.log").open("wb")
    except OSError as error:
        raise unwritable(settings, error) from error
    with log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "infra.stack"],
            env=child_environment(settings, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _follow(settings, supervisor)
    except BaseException:  # also Ctrl-C: a start that was given up leaves no supervisor behind
        supervisor.terminate()
        supervisor.wait()
        raise
    return supervisor.pid


def _follow(settings: Settings, supervisor: subprocess.Popen[bytes]) -> None:
    path = settings.log_dir / "supervisor.log"
    shown = 0
    give_up = time.monotonic() + _DETACH_S
    while True:
        status = supervisor.poll()
        lines = path.read_text(errors="replace").splitlines()
        for line in lines[shown:]:
            if line.lstrip()[:1].isdigit():  # progress; a sentence comes as the error below
                print(line, file=sys.stderr, flush=True)
        shown = len(lines)
        if status is not None:
            raise StartError(lines[-1] if lines else f"The supervisor ended; read {path}.", exit_code=status or 1)
        state = read_state(settings)
        if state.get("ready") and state["supervisor"]["pid"] == supervisor.pid:
            return
        if time.monotonic() > give_up:
            raise StartError(f"The stack is not ready after {_DETACH_S:.0f} s; read {path}.", exit_code=5)
        time.sleep(0.05)
