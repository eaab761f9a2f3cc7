"""``isos topics``: the table of topics, beside what the broker holds; or create what is missing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from streams.topics import JOURNALED_AGENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings
    from streams.topics import Topic

app = new_app(has_verbs=True)


@app.command("list", epilog=examples("isos topics list", "isos topics list --offline --output yaml"))
def list_topics(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Only the table; ask no broker.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List every topic. Shows its record, cleanup, retention, who may write and who may read it."""
    settings = settings_of(ctx)
    found: Mapping[str, int] | None = None if offline else _ask(settings)
    write(rows(settings, found), output)
    if found is not None and len(found) < len(_table()):
        missing = len(_table()) - len(found)
        typer.echo(f"{missing} topics are missing; `isos topics provision` creates them.", err=True)


@app.command(
    epilog=examples(
        "isos topics provision", "isos topics provision --repair", "isos --set brokers=10.0.0.5:9092 topics provision"
    )
)
def provision(
    ctx: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="First set what differs in a topic's settings; never its partitions.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create missing topics and schemas. Topics that exist are checked, and altered only with --repair.

    Exit code 1 when a topic differs from its table; each difference is named.
    """
    from infra.audit_trail import audited
    from streams.audit_operation import Facts
    from streams.connection import Connection
    from streams.provision import ProvisionError
    from streams.provision import provision as run

    settings = settings_of(ctx)
    work = run(Connection(settings.bootstrap), partitions=settings.partitions, lanes=settings.num_lanes)
    facts = Facts(resources=("repair",) if repair else ())
    with broker_answers(), audited(settings, "topics.provision", facts, held=True) as operation:
        try:
            if repair:
                asyncio.run(_repair(settings))
            done = asyncio.run(work)
            operation.affected(*done.created)
        except ProvisionError as error:
            for sentence in error.differences:
                typer.echo(sentence, err=True)
            raise typer.Exit(1) from None
    write(
        [
            {
                "created": len(done.created),
                "existing": len(done.topic_ids) - len(done.created),
                "schemas_added": done.num_registered,
            }
        ],
        output,
    )


async def _repair(settings: Settings) -> None:
    """Put every setting right that differs, and say which."""
    from streams.connection import Connection
    from streams.topic_check import PARTITIONS, check_topics, repair_topics

    connection = Connection(settings.bootstrap)
    found = await check_topics(connection, partitions=settings.partitions, lanes=settings.num_lanes)
    faults = [fault for fault in found.faults if fault.setting != PARTITIONS]
    await repair_topics(connection, faults)
    for fault in faults:
        typer.echo(f"repaired: {fault}", err=True)


@app.command(epilog=examples("isos topics grow --partitions 4 --dry-run", "isos topics grow --partitions 4 --lanes 4"))
def grow(
    ctx: typer.Context,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=256, help="Partitions of requests, admitted, executed, results.")
    ] = None,
    lanes: Annotated[int | None, typer.Option(min=1, max=256, help="Partitions of inference.routed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add partitions while the stack runs, results first and requests last; again, to complete what was interrupted.

    The processes notice new partitions by themselves. Exit code 4 for less than there are, 3 when a topic is missing.
    """
    from infra.audit_trail import audited
    from streams.audit_operation import Facts
    from streams.connection import Connection
    from streams.growth import GrowthRefusedError, TopicMissingError, steps
    from streams.growth import grow as run

    if partitions is None and lanes is None:
        raise typer.BadParameter("give --partitions, --lanes or both", param_hint="--partitions")
    settings = settings_of(ctx)
    try:
        plan = steps(_ask(settings), partitions=partitions, lanes=lanes)
    except (GrowthRefusedError, TopicMissingError) as error:
        typer.echo(f"{error}.", err=True)
        raise typer.Exit(4 if isinstance(error, GrowthRefusedError) else 3) from None
    if not dry_run:
        wanted = tuple(f"{each.topic}={each.after}" for each in plan)
        with broker_answers(), audited(settings, "topics.grow", Facts(resources=wanted)) as operation:
            operation.affected(*(each.topic for each in plan))
            asyncio.run(run(Connection(settings.bootstrap), plan, report=lambda line: typer.echo(line, err=True)))
    write([{"topic": each.topic, "before": each.before, "after": each.after} for each in plan], output)
    for sentence in _afterwards(settings, partitions, lanes):
        typer.echo(sentence, err=True)


def _afterwards(settings: Settings, partitions: int | None, lanes: int | None) -> list[str]:
    """What is left for the person to do."""
    out = []
    if partitions is not None and partitions != settings.partitions:
        out.append(f"Set partitions to {partitions} before the next `isos up`, which compares the two.")
    if lanes is not None:
        out.append("Routers use new lanes after `isos restart router`.")
    return out


def rows(settings: Settings, found: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """One row per topic; ``found`` are the broker's partition counts by short name, None when it was not asked."""
    return [_row(settings, topic, found) for topic in _table().values()]


def _row(settings: Settings, topic: Topic, found: Mapping[str, int] | None) -> dict[str, Any]:
    from streams.provision import partition_count

    wanted = partition_count(topic, settings.partitions, settings.num_lanes)
    row: dict[str, Any] = {"topic": topic.full_name, "record": topic.record or "bytes"}
    if found is not None:
        row["on_broker"] = found.get(topic.name, 0)
    return row | {
        "partitions": wanted,
        "cleanup": topic.cleanup,
        "retention": retention(topic.retention_ms),
        "writers": _names(topic.writers),
        "readers": _names(topic.readers),
    }


def _names(names: tuple[str, ...]) -> str:
    return "control agents" if names == JOURNALED_AGENTS else ", ".join(names)


def retention(ms: int) -> str:
    """How long, for people."""
    if ms < 0:
        return "for ever"
    hours = ms // 3_600_000
    return f"{hours // 24} d" if hours % 24 == 0 else f"{hours} h"


def _table() -> Mapping[str, Topic]:
    from streams.provision import ALL

    return ALL


def _ask(settings: Settings) -> Mapping[str, int]:
    from streams.connection import Connection
    from streams.provision import topic_partitions

    with broker_answers():
        return asyncio.run(topic_partitions(Connection(settings.bootstrap), _table()))
