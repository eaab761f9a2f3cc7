"""``isos restart``: processes of the running stack anew, one at a time, with the code that is installed now."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write

app = new_app()


@app.command(
    epilog=examples("isos restart", "isos restart router validator-1", "isos restart edge --together --output json")
)
def restart(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[PROCESS|ROLE]...", help="What to restart; default: all but servers.")
    ] = None,
    rolling: Annotated[
        bool, typer.Option("--rolling/--together", help="One at a time, or all named ones at once.")
    ] = True,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one process to be back and caught up.")] = 120.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Restart processes without losing a request: readers of a record before its writers.

    The broker and Redis are restarted only when they are named. Exit code 3 when no stack is running or a name is
    unknown, 4 while it starts or another restart is under way, 5 when a process does not come back in time.
    """
    from infra.audit_actor import audited_here
    from infra.stack_restart import restart as run
    from streams.audit_operation import Facts

    settings = settings_of(ctx)
    with audited_here(settings, "stack.restart", Facts(resources=tuple(names or ("all",)))) as operation:
        done = run(settings, names or (), rolling=rolling, timeout_s=timeout, report=report)
        operation.affected(*(each.process for each in done))
    write([asdict(each) for each in done], output)


def report(name: str, event: str, seconds: float) -> None:
    """Print one line of progress on stderr."""
    print(f"{seconds:7.2f} s  {name:<14} {event}", file=sys.stderr, flush=True)
