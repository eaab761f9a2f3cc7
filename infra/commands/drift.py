"""``isos models drift``: how far the rows of the last minute are from a version's reference, measure by measure."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from agents.drift import Slot
    from agents.drift_case import Case
    from infra.memory_control import MemoryControl
    from schemas.reference import Reference

EPILOG = examples("isos models drift digits", "isos models drift digits v1.0.0 --seconds 600 --output json")
MAX_WINDOWS: Final = 5_000
NEVER: Final = 1 << 62


def drift(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[str, typer.Argument(help="A registered version; the active one where none is given.")] = "",
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How far back, s.")] = 60,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how far a version's rows are from its reference, worst first: what the Monitor judges.

    A measure drifts when its PSI reaches 0.2 and what chance makes of so few rows (by_chance). Exit code 3 for an
    unknown model or version, or one without a reference.
    """
    from infra.drift_check import reference_of
    from infra.memory_control import MemoryControl
    from infra.reference_control import facts_of
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def run(control: MemoryControl) -> tuple[Reference | None, Slot | None]:
        from infra.log_reader import LogReader

        standing = reference_of(control.view, name, facts_of(control.view, name, version).version)
        if standing is None:
            return None, None
        found, named = standing
        reader = await LogReader.connect(Connection(settings.bootstrap))
        windows = [each.record for each in await reader.read("control.statistics", MAX_WINDOWS)]
        return found, counted(found, named, windows, time.time_ns() // 1000, seconds)

    found, total = controlled(settings, MemoryControl, run)
    if found is None:
        typer.echo(f"{name} has no reference. `isos models reference {name} --data FILE` makes one.", err=True)
        raise typer.Exit(3)
    if total is None:
        typer.echo(f"{found.model} {found.version} got no rows within {seconds} s.", err=True)
        write([], output, _document(found, seconds, 0, 0, []))
        return
    from agents.drift_case import DriftParams, compared

    rows = measure_rows(compared(found, total.measures, DriftParams()))
    if output is Output.TABLE:
        what = f"{total.num_sampled:,} of {total.num_rows:,} rows of the last {seconds} s"
        typer.echo(f"{found.model} {found.version}: {what} beside {found.num_rows:,} of {found.source}", err=True)
    write(rows, output, _document(found, seconds, total.num_rows, total.num_sampled, rows))


def counted(found: Reference, named: str, windows: list[Any], now_us: int, seconds: int) -> Slot | None:
    """All that executors counted by the reference within so many seconds; None where that is nothing.

    ``named``: what windows know the reference by.
    """
    from agents.drift import Drifts, Watched, hear
    from agents.drift_case import DriftParams
    from schemas.coordinate import RecordCoordinate
    from streams.agent import Event

    nowhere = RecordCoordinate("", -1, -1)
    name = f"{found.model}/{found.version}"
    state = Drifts({name: Watched(found, named, nowhere)})
    params = DriftParams(window_us=seconds * 1_000_000, min_rows=NEVER)  # to be counted, not to be judged
    for window in windows:
        state, _ = hear(state, window, Event(window, nowhere, now_us), params)
    watched = state.versions[name]
    return watched.total if watched.slots else None


def measure_rows(case: Case) -> list[dict[str, Any]]:
    """A row per measure, worst first."""
    order = sorted(case.measures, key=lambda each: (-each.psi, each.name))
    return [
        {"measure": row.pop("name"), "drifts": each in case.drifting, **row} for each in order if (row := asdict(each))
    ]


def _document(found: Reference, seconds: int, num_rows: int, num_sampled: int, rows: list[Any]) -> dict[str, Any]:
    return {
        "model": found.model, "version": found.version, "seconds": seconds, "num_rows": num_rows,
        "num_sampled": num_sampled, "num_reference_rows": found.num_rows, "measures": rows,
    }  # fmt: skip
