"""``isos timeline``: what the agents and people did, in order, from the log alone."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.memory import parse_point
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.timeline import Line

app = new_app()

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
REASON_WIDTH: Final = 100


@app.command(
    epilog=examples(
        "isos timeline --since 15m",
        "isos timeline --since 2026-01-31T12:00:00 --about digits",
        "isos timeline --all --output jsonl",
    )
)
def timeline(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="Only what is newer: a span (90s, 15m, 2h, 1d) or a time (UTC).")] = "",
    name: Annotated[str, typer.Option("--about", help="Only lines about this model, version, process or pool.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also decisions that changed nothing.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what happened: changes of memory, alerts, scaling, checks, reviews, escalations; each with its reason.

    Everything is read from the log, so it is the same for whoever reads it. Exit code 3 when there is nothing.
    """
    from infra.timeline import about, read_timeline, row
    from streams.connection import Connection

    since_us = moment(since, time.time_ns() // 1000)
    with broker_answers():
        lines = asyncio.run(read_timeline(Connection(settings_of(ctx).bootstrap)))
    wanted = [
        line
        for line in lines
        if line.time_us >= since_us and (everything or not line.is_quiet) and (not name or about(line, name))
    ]
    if not wanted:
        typer.echo("The log has nothing of it. `isos timeline --all` shows all that it holds.", err=True)
        raise typer.Exit(3)
    if output is Output.TABLE:
        write([table_row(line, wanted[0].time_us) for line in wanted], output)
        return
    write([row(line) for line in wanted], output)


def moment(text: str, now_us: int) -> int:
    """``--since`` in microseconds since the epoch; 0 when nothing was given."""
    if not text:
        return 0
    span = re.fullmatch("([0-9]+)([smhd])", text)
    if span is not None:
        return now_us - int(span[1]) * UNITS[span[2]] * 1_000_000
    try:
        _, time_us = parse_point(text)
    except ValueError:
        time_us = None
    if time_us is None:
        raise typer.BadParameter(f"{text} is neither a span nor a time", param_hint="--since")
    return time_us


def table_row(line: Line, first_us: int) -> dict[str, Any]:
    """A line for people: the time of day, seconds since the first line, and reasons in one line."""
    reason = " ".join(line.reason.split())
    return {
        "time": datetime.fromtimestamp(line.time_us / 1e6, UTC).strftime("%H:%M:%S.%f")[:-3],
        "s": f"{(line.time_us - first_us) / 1e6:.1f}",
        "who": line.who,
        "what": line.what,
        "subject": line.subject,
        "reason": reason if len(reason) <= REASON_WIDTH else f"{reason[: REASON_WIDTH - 1]}…",
    }
