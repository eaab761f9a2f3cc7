"""``isos escalations``: what agents handed to people, newest last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from schemas.review import Escalation

app = new_app(has_verbs=True)

REASON_WIDTH = 100


@app.command(
    "list", epilog=examples("isos escalations list", "isos escalations list --about digits --last 5 --output jsonl")
)
def list_(
    ctx: typer.Context,
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
    about: Annotated[str, typer.Option(help="Only those about this model, process or review.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """List what agents decided and told people, or could not decide without them."""
    from infra.incident_view import escalation_row

    chosen = [each for each in read(ctx) if about in ("", each.subject, *each.subject.split("/"))]
    rows = [escalation_row(each) for each in chosen][-last:]
    if not rows and output is Output.TABLE:
        typer.echo("Nothing was escalated.", err=True)
        return
    if output is Output.TABLE:
        rows = [{**row, "time": row["time"][:19], "reason": row["reason"][:REASON_WIDTH]} for row in rows]
    write(rows, output)


@app.command(epilog=examples("isos escalations show rollback/digits/1769860800000000"))
def show(
    ctx: typer.Context,
    escalation_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the escalation.")],
    output: OutputOption = Output.YAML,
) -> None:
    """Show one escalation with the records that led to it. Exit code 3 when there is none of that id."""
    from infra.incident_view import escalation_document

    found = next((each for each in read(ctx) if each.escalation_id == escalation_id), None)
    if found is None:
        typer.echo(f"There is no escalation {escalation_id}. `isos escalations list` shows what there is.", err=True)
        raise typer.Exit(3)
    document = escalation_document(found)
    write([document], output, document)


def read(ctx: typer.Context) -> list[Escalation]:
    """All escalations of the log, each once; exit code 6 when the broker does not answer."""
    from infra.incident_view import unique
    from infra.log_reader import LogReader
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def run() -> list[Escalation]:
        reader = await LogReader.connect(Connection(settings.bootstrap))
        return unique(each.record for each in await reader.read("control.escalations"))

    with broker_answers():
        return asyncio.run(run())
