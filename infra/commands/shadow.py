"""``isos models shadow``: have another version run a share of the rows too, and see how it compares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from infra.shadow_control import ShadowControl
    from streams.memory_view import MemoryView

EPILOG = examples(
    "isos models shadow digits v1.1.0 --percent 10",
    "isos models shadow digits",
    "isos models shadow digits --seconds 3600 --output json",
    "isos models shadow digits --off",
)
MAX_RECORDS: Final = 20_000


def shadow(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[str, typer.Argument(help="The version that is to shadow it; none shows how one did.")] = "",
    percent: Annotated[int, typer.Option(min=1, max=100, help="Share of the rows that are copied, %.")] = 10,
    off: Annotated[bool, typer.Option("--off", help="Copy no rows any more.")] = False,
    seconds: Annotated[int, typer.Option(min=1, max=604_800, help="How far back figures go, s.")] = 600,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the plan says so.")] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have another version run a share of a model's rows too, in spare time; it answers none of them.

    Without a version it says what stands and how the copies did: outcomes, whether outputs agree (the place of the
    largest of a row of scores, numbers within a thousandth, else equal), and times from routed to executed. Unheard are
    rows that nobody had time to copy. Exit code 3 for an unknown model or version, 4 when the Orchestrator refuses (it
    serves, takes other inputs, keeps an order), 5 when it does not answer in time.
    """
    if version and off:
        raise typer.BadParameter("give either a version or --off", param_hint="--off")
    from infra.log_reader import LogReader
    from infra.memory_control import require_model
    from infra.shadow_control import ShadowControl
    from infra.shadow_figures import figures
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def run(control: ShadowControl) -> tuple[MemoryView, list[dict[str, Any]]]:
        require_model(control.view, name)
        if version or off:
            await control.set_shadow(name, version, 0 if off else percent, wait_for_plan=wait)
            return control.view, []
        reader = await LogReader.connect(Connection(settings.bootstrap))
        records = [each.record for each in await reader.read("inference.shadow", MAX_RECORDS)]
        return control.view, figures(records, name, time.time_ns() // 1000 - seconds * 1_000_000)

    view, rows = controlled(settings, ShadowControl, run)
    document = described(view, name, rows)
    if output is not Output.TABLE:
        write([document], output, document)
        return
    typer.echo(said(document), err=not (version or off))
    if rows:
        write([table_row(row) for row in rows], output)
    elif not (version or off):
        typer.echo(f"Nothing was compared within {seconds} s.", err=True)


def described(view: MemoryView, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What stands of a model's shadow, and the figures."""
    from streams.memory_view import plan
    from streams.shadow_view import shadow_policy

    asked, effective = shadow_policy(view, name), plan(view, name)
    planned = None if effective is None else effective.shadow
    return {
        "model": name,
        "shadow": None if asked is None else asked.version,
        "percent": 0 if asked is None else asked.percent,
        "planned": asked is not None and planned is not None and planned.version == asked.version,
        "memory_sequence": view.sequence,
        "versions": rows,
    }


def said(document: dict[str, Any]) -> str:
    """What stands, as a sentence."""
    name, version = document["model"], document["shadow"]
    if version is None:
        return f"{name} has no shadow (memory {document['memory_sequence']})."
    sentence = f"{document['percent']} % of {name}'s rows are copied to {version}"
    if not document["planned"]:
        sentence += (
            ", but not by the plan as it stands: it serves, or a rule or a change of the model keeps it from rows"
        )
    return f"{sentence} (memory {document['memory_sequence']})."


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """The figures that fit a line."""
    agreement = "-" if row["agreement"] is None else f"{100 * row['agreement']:.2f} %"
    failed = row["error"] + row["rejected"] + row["expired"]
    shown = {"version": row["version"], "rows": row["rows"], "failed": failed, "unheard": row["unheard"]}
    shown |= {"agreement": agreement, "differs": row["differs"]}
    for name in ("p50_ms", "p99_ms", "primary_p50_ms", "primary_p99_ms"):
        shown[name] = "-" if row[name] is None else f"{row[name]:.1f}"
    return shown
