"""``isos reviews``: what waits for a person, by the Reviewer's own rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from schemas.review import ReviewDecision, ReviewRequest

app = new_app(has_verbs=True)


@app.command("list", epilog=examples("isos reviews list", "isos reviews list --all --output jsonl"))
def list_(
    ctx: typer.Context,
    decided: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the open requests, the nearest deadline first."""
    rows = [row for row in review_rows(*_read(ctx), time.time_ns() // 1000) if decided or row["state"] == "waiting"]
    if not rows and output is Output.TABLE:
        typer.echo("Nothing waits for a review.", err=True)
        return
    if output is Output.TABLE:
        rows = [{name: row[name] for name in ("review_id", "author", "subject", "state", "deadline")} for row in rows]
    write(rows, output)


@app.command(epilog=examples("isos reviews show 41-0"))
def show(
    ctx: typer.Context,
    review_id: Annotated[str, typer.Argument(help="Id of the review.")],
    output: OutputOption = Output.YAML,
) -> None:
    """Show one request with its evidence and decision. Exit code 3 when there is none."""
    rows = [row for row in review_rows(*_read(ctx), time.time_ns() // 1000) if row["review_id"] == review_id]
    if not rows:
        typer.echo(f"There is no review {review_id}. `isos reviews list --all` shows what there is.", err=True)
        raise typer.Exit(3)
    write(rows, output, rows[0])


def review_rows(
    requests: Iterable[ReviewRequest], decisions: Iterable[ReviewDecision], now_us: int
) -> list[dict[str, Any]]:
    """One row per request: waiting, or how it was decided; past its deadline and undecided it counts as expired."""
    from agents.reviewer import State, open_requests, take

    state = State()
    for request in requests:
        state = take(state, request)
    outcome = {decision.review_id: decision for decision in reversed(list(decisions))}
    rows = []
    for request in open_requests(state):
        decision = outcome.get(request.review_id)
        undecided = "waiting" if request.deadline_us > now_us else "expired"
        rows.append(
            {
                **asdict(request),
                "state": undecided if decision is None else decision.decision,
                "deadline": datetime.fromtimestamp(request.deadline_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "decided_by": "" if decision is None else decision.decided_by,
                "reason": "" if decision is None else decision.reason,
            }
        )
    return rows


def _read(ctx: typer.Context) -> tuple[list[ReviewRequest], list[ReviewDecision]]:
    from infra.log_reader import LogReader
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def read() -> tuple[list[ReviewRequest], list[ReviewDecision]]:
        reader = await LogReader.connect(Connection(settings.bootstrap))
        requests = [each.record for each in await reader.read("control.review-requests")]
        return requests, [each.record for each in await reader.read("control.review-decisions")]

    with broker_answers():
        return asyncio.run(read())
