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


@app.command(epilog=examples("isos topics provision", "isos --set brokers=10.0.0.5:9092 topics provision"))
def provision(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Create missing topics and schemas. Topics that exist are checked and never altered.

    Exit code 1 when a topic differs from its table; each difference is named.
    """
    from streams.connection import Connection
    from streams.provision import ProvisionError
    from streams.provision import provision as run

    settings = settings_of(ctx)
    work = run(Connection(settings.bootstrap), partitions=settings.partitions, lanes=settings.num_lanes)
    with broker_answers():
        try:
            done = asyncio.run(work)
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
