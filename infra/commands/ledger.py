"""``isos ledger``: has every request exactly one result? Reads the two public topics and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import Progress, shown_progress
from streams.errors import RetriableError
from streams.topics import PREFIX, SUFFIX, full_name

if TYPE_CHECKING:
    from infra.settings import Settings
    from streams.connection import Connection
    from streams.ledger import Report

COUNTS = ("received", "ok", "error", "rejected", "expired", "in_flight", "missing", "duplicated", "orphaned", "reaped")


def ledger(
    ctx: typer.Context,
    drained: Annotated[bool, typer.Option("--drained", help="Allow no request to be in flight.")] = False,
    output: OutputOption = Output.TABLE,
    requests_topic: Annotated[str, typer.Option(help="Topic of the requests.")] = full_name("inference.requests"),
    results_topic: Annotated[str, typer.Option(help="Topic of the results.")] = full_name("inference.results"),
    topic_id: Annotated[str, typer.Option(help="Topic id (32 hex digits) that results name; default: asked.")] = "",
) -> None:
    """Count requests and their results per partition, by offset.

    Exit code 7 when a request is missing or has two results; 3 when there is no such topic.
    """
    from streams.ledger_reader import UnknownTopicError

    settings = settings_of(ctx)
    with broker_answers():
        try:
            report = audit(settings, requests_topic, results_topic, topic_id)
        except UnknownTopicError as error:
            typer.echo(f"{error}; `isos topics list` shows what there is.", err=True)
            raise typer.Exit(3) from None
    found = report.violations(drained=drained)
    write(_rows(report), output, document(report, found))
    for sentence in found:
        typer.echo(sentence, err=True)
    if found:
        raise typer.Exit(7)


def audit(
    settings: Settings,
    requests_topic: str = full_name("inference.requests"),
    results_topic: str = full_name("inference.results"),
    topic_id: str = "",
) -> Report:
    """Read both topics (full names) and close the account.

    Raises RetriableError when the broker is away, UnknownTopicError, and typer.BadParameter for a topic id.
    """
    from streams.connection import Connection

    max_age_ms = settings.max_timeout_ms + settings.grace_ms
    connection = Connection(settings.bootstrap)
    with shown_progress() as progress:
        return asyncio.run(_read(connection, (requests_topic, results_topic), topic_id, max_age_ms, progress))


async def _read(
    connection: Connection, topics: tuple[str, str], topic_id: str, max_age_ms: int, progress: Progress
) -> Report:
    from streams.ledger_reader import read_report

    source = _parse_topic_id(topic_id) if topic_id else await _ask_topic_id(connection, topics[0])
    return await read_report(connection, source, topics, max_age_ms=max_age_ms, progress=progress)


def _parse_topic_id(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise typer.BadParameter("it takes 32 hexadecimal digits", param_hint="--topic-id")
    return value


async def _ask_topic_id(connection: Connection, topic: str) -> bytes:
    from streams.ledger_reader import UnknownTopicError
    from streams.provision import topic_ids, topic_partitions

    if not (topic.startswith(PREFIX) and topic.endswith(SUFFIX)):
        raise typer.BadParameter(
            f"the id of {topic} is not known here; give it with --topic-id", param_hint="--requests-topic"
        )
    short = topic.removeprefix(PREFIX).removesuffix(SUFFIX)
    await _knock(connection.bootstrap)
    if short not in await topic_partitions(connection, [short]):
        raise UnknownTopicError(topic)
    return (await topic_ids(connection, [short]))[short]


async def _knock(bootstrap: str) -> None:
    """Notice at once that nobody listens; the administration client only does so after its time-out."""
    from streams.connection import UnreachableError, bounded

    reason = ""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            _, writer = await bounded(asyncio.open_connection(host, int(port)), 5, f"connecting to {address}")
        except (OSError, ValueError, RetriableError) as error:
            reason = str(error)
            continue
        writer.close()
        return
    raise UnreachableError(f"connecting to {bootstrap}", reason)


def document(report: Report, found: tuple[str, ...]) -> dict[str, Any]:
    """The report as JSON: totals, one object per partition (offset lists bounded), what is wrong in sentences."""
    return {
        **{name: report.total(name) for name in COUNTS},
        "foreign": report.foreign,
        "unreadable": report.unreadable,
        "violations": list(found),
        "partitions": [asdict(count) for count in report.partitions],
    }


def _rows(report: Report) -> list[dict[str, Any]]:
    """One row per partition and the totals."""
    rows: list[dict[str, Any]] = []
    for count in report.partitions:
        values = {name: getattr(count, name) for name in COUNTS}
        rows.append({"partition": count.partition, **{k: getattr(v, "total", v) for k, v in values.items()}})
    return [*rows, {"partition": "all", **{name: report.total(name) for name in COUNTS}}]


app = new_app()
app.command(epilog=examples("isos ledger", "isos ledger --drained --output json"))(ledger)
