"""``isos status``: the process table, and what the Monitor folds from heartbeats and telemetry."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import asdict
from typing import Any

import typer

from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write
from infra.settings import Settings
from infra.stack_state import report_stack

app = new_app()


@app.command(epilog=examples("isos status", "isos status --output json"))
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show processes with pid, phase, restarts, memory, CPU and uptime, and how many executors there should be.

    Exit code 3 when no stack is running.
    """
    settings = settings_of(ctx)
    stack = report_stack(settings)
    document = asdict(stack)
    if stack.ready and (seen := monitored(settings)) is not None:
        document["monitor"] = seen
    if output is Output.TABLE:
        state = "ready" if stack.ready else "starting" if stack.running else "not running"
        print(f"stack {state}, supervisor {stack.supervisor_pid or '-'}, data in {stack.data_dir}")
    rows = [{key: value for key, value in asdict(row).items() if key != "log"} for row in stack.processes]
    write(rows, output, document)
    if output is Output.TABLE and stack.pools:
        write([asdict(pool) for pool in stack.pools], output)
    if output is Output.TABLE and "monitor" in document:
        write([document["monitor"]], output)
    if not stack.running:
        raise typer.Exit(3)


def monitored(settings: Settings) -> dict[str, Any] | None:
    """Ask ``infra.monitor_view.read_monitor(settings)`` for flat figures; None where there is no such view."""
    if importlib.util.find_spec("infra.monitor_view") is None:
        return None
    seen: dict[str, Any] | None = importlib.import_module("infra.monitor_view").read_monitor(settings)
    return seen
