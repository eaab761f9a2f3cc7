"""``isos incidents``: what is wrong now, what was, and what was decided about it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.incident_view import IncidentLife
    from infra.memory_control import MemoryControl
    from schemas.review import Escalation

app = new_app(has_verbs=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the incident.")]
MESSAGE_WIDTH = 80


@app.command(
    "list",
    epilog=examples("isos incidents list", "isos incidents list --about digits --all", "isos incidents list -o json"),
)
def list_(
    ctx: typer.Context,
    closed: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    about: Annotated[str, typer.Option(help="Only those about this model, version or process.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """List the open incidents, oldest first."""
    from infra.incident_view import incident_row

    found, _ = read(ctx)
    chosen = [each for each in found if closed or each.resolved is None]
    rows = [incident_row(each) for each in chosen if about in ("", *each.incident.subject.split("/"))]
    if not rows and output is Output.TABLE:
        typer.echo("There is no incident." if closed else "No incident is open.", err=True)
        return
    if output is Output.TABLE:
        rows = [table_row(row) for row in rows]
    write(rows, output)


@app.command(epilog=examples("isos incidents show rollback/digits/1769860800000000", "isos incidents show ID -o json"))
def show(ctx: typer.Context, incident_id: IdArgument, output: OutputOption = Output.YAML) -> None:
    """Show an incident with its evidence, every decision about it, and what people were told.

    The newest is shown where one was raised several times. Exit code 3 when there is none of that id.
    """
    from infra.incident_view import incident_document

    found, escalations = read(ctx)
    life = next((each for each in reversed(found) if each.incident.incident_id == incident_id), None)
    if life is None:
        typer.echo(f"There is no incident {incident_id}. `isos incidents list --all` shows what there is.", err=True)
        raise typer.Exit(3)
    document = incident_document(life, escalations)
    write([document], output, document)


@app.command(epilog=examples('isos incidents close rollback/digits/1769860800000000 --reason "checked by hand"'))
def close(
    ctx: typer.Context,
    incident_id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why it is over, in one sentence.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Close an incident that no agent will close, such as a roll-back whose check failed and was looked into.

    Exit code 3 when none of that id is open, 4 when the Orchestrator refuses, 5 when it does not answer in time.
    """
    from agents.approval import MAX_REASON
    from infra.memory_command import command_of
    from infra.memory_control import MemoryControl

    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON:
        raise typer.BadParameter(f"say why in 1 to {MAX_REASON} characters", param_hint="--reason")
    key = f"incident/{incident_id}"

    async def run(control: MemoryControl) -> bool:
        if key not in control.view.entries:
            return False
        now_us = time.time_ns() // 1000
        command = command_of("ResolveIncident", key, "", reason, control.view, now_us)
        await control.propose(
            command, lambda view: key not in view.entries, "`isos incidents list` shows what is open."
        )
        return True

    if not controlled(settings_of(ctx), MemoryControl, run):
        typer.echo(f"No incident {incident_id} is open. `isos incidents list` shows those that are.", err=True)
        raise typer.Exit(3)
    if output is Output.TABLE:
        typer.echo(f"{incident_id} is closed.")
        return
    row = {"incident_id": incident_id, "state": "resolved", "reason": reason}
    write([row], output, row)


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row that fits a line; kind and subject stand in the id."""
    return {
        "incident_id": row["incident_id"],
        "severity": row["severity"],
        "since": row["since"][:19],
        "until": (row["until"] or "open")[:19],
        "message": row["message"][:MESSAGE_WIDTH],
    }


def read(ctx: typer.Context) -> tuple[list[IncidentLife], list[Escalation]]:
    """All incidents and escalations from the log; exit code 6 when the broker does not answer."""
    from infra.incident_view import lives
    from infra.log_reader import LogReader
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def run() -> tuple[list[IncidentLife], list[Escalation]]:
        reader = await LogReader.connect(Connection(settings.bootstrap))
        events = [stored.event for stored in await reader.memory_events()]
        return lives(events), [each.record for each in await reader.read("control.escalations")]

    with broker_answers():
        return asyncio.run(run())
