"""``isos replay``: does today's code still decide what the control agents' journals say?"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import shown_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.journals import Replayed
    from infra.settings import Settings

COLUMNS: Final = ("agent", "from_sequence", "entries", "snapshots", "differences", "first_difference", "records_per_s")

FromStartOption = Annotated[bool, typer.Option("--from-start", help="Everything that is kept, not only the last day.")]


def replay(
    ctx: typer.Context,
    agents: Annotated[list[str] | None, typer.Argument(metavar="AGENT", help="Control agents.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every control agent.")] = False,
    from_start: FromStartOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Decide journals of control agents, and sampled decisions of Routers, once more with today's code, and compare.

    The inputs, times and effects are the journal's (the last day, from the snapshot before it), the parameters those
    that the settings and the rules file give now: what was changed since shows as a difference. Effects are compared
    byte for byte, the state at each 1,000th entry and each snapshot. The first difference of an agent is named, and
    ends its replay: what comes after it follows from it.

    Exit code 7 when an agent differs or its journal is broken, 3 for an agent or a journal that does not exist.
    """
    from infra.routing_replay import NAME as ROUTER

    settings = settings_of(ctx)
    names = chosen(settings, agents or [], every=every, more=(ROUTER,))
    with broker_answers():
        rows, num_unknown = _replay(settings, names, from_start=from_start)
    if output is Output.TABLE:
        write([{column: each[column] for column in COLUMNS} for each in rows], output)
    else:
        write(rows, output)
    if every and num_unknown:
        typer.echo(f"{num_unknown} journals are of agents that this release does not know: not looked at.", err=True)
    for each in rows:
        for sentence in each["notes"]:
            typer.echo(sentence, err=True)
    if any(each["differences"] for each in rows):
        raise typer.Exit(7)


def chosen(settings: Settings, names: Sequence[str], *, every: bool, more: Sequence[str] = ()) -> list[str]:
    """The control agents, or ``more``, to look at, each once; exit code 3 for an unknown one, 2 when none is named."""
    from infra.journals import control_agents

    known = [*control_agents(settings), *more]
    for name in names:
        if name not in known:
            typer.echo(f"No decisions of an agent {name} are kept; those of {', '.join(known)} are.", err=True)
            raise typer.Exit(3)
    if not names and not every:
        raise typer.BadParameter(f"name agents ({', '.join(known)}) or give --all", param_hint="AGENT")
    return known if every else list(dict.fromkeys(names))


def _replay(settings: Settings, names: Sequence[str], *, from_start: bool) -> tuple[list[dict[str, Any]], int]:
    """A row per agent, and how many journals are of agents that this release does not know."""
    from infra import routing_replay
    from infra.journals import Journals, begin_ms, control_agents
    from streams.connection import Connection

    specs = control_agents(settings)
    connection = Connection(settings.bootstrap)

    async def run() -> tuple[list[dict[str, Any]], int]:
        journals = await Journals.open(connection)
        since = begin_ms(from_start=from_start)
        rows: list[dict[str, Any]] = []
        with shown_progress() as progress:
            for name in names:
                if name == routing_replay.NAME:
                    rows.append(routing_replay.row(await routing_replay.reroute(connection, since)))
                else:
                    rows.append(row(name, await journals.replay(specs[name], since, progress)))
        return rows, journals.num_unknown

    return asyncio.run(run())


def row(name: str, replayed: Replayed) -> dict[str, Any]:
    """One agent's outcome; ``notes`` are sentences."""
    replay, found = replayed.replay, replayed.difference
    return {
        "agent": name,
        "from_sequence": replay.first_sequence,
        "entries": replay.num_entries,
        "snapshots": replay.num_snapshots,
        "differences": int(found is not None),
        "first_difference": None if found is None else (found.sequence if found.sequence >= 0 else "unreadable"),
        "records_per_s": round(replay.num_entries / max(replayed.seconds, 1e-6)),
        "seconds": round(replayed.seconds, 3),
        "passed_over": replay.num_passed,
        "difference": None if found is None else {**asdict(found), "time": time_text(found.time_us)},
        "notes": notes(name, replayed),
    }


def notes(name: str, replayed: Replayed) -> list[str]:
    """What a person should know beside the counts: the difference first."""
    replay, found = replayed.replay, replayed.difference
    said: list[str] = []
    if found is not None:
        where = f"at sequence {found.sequence} of {time_text(found.time_us)}" if found.sequence >= 0 else ""
        given = f"{found.kind} {found.input}".strip()
        place = " ".join(part for part in (where, f"(offset {found.offset}{', ' if given else ''}{given})") if part)
        whose = "its journal is broken" if found.part == "journal" else "it decides otherwise today"
        said.append(f"{name}: {whose} {place}: {found.what}.")
    if found is None and replay.num_passed and not replayed.is_part:
        said.append(f"{name}: {replay.num_passed} entries stand before the first snapshot that is kept: passed over.")
    if replay.num_reshaped:
        said.append(f"{name}: {replay.num_reshaped} snapshots are of a release with another state: compared in part.")
    if found is None and not replay.num_entries:
        said.append(f"{name}: the journal is empty.")
    return said


def time_text(time_us: int) -> str:
    """A time as people write it, UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


app = new_app()
app.command(
    epilog=examples("isos replay --all", "isos replay router", "isos replay monitor planner --from-start --output json")
)(replay)
