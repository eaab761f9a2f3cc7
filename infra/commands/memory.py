"""``isos memory``: what stands in memory, now or at an earlier time, how a key came to be, whether the log is whole."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.findings import HeadOption, finding_document, noted, tell
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import shown_progress

if TYPE_CHECKING:
    from streams.chain_check import Report
    from streams.memory_fold import StoredEvent
    from streams.memory_view import MemoryHead, MemoryView

app = new_app(has_verbs=True)

AtOption = Annotated[str, typer.Option(help="Sequence (a number) or time (2026-01-31T12:00:00, UTC unless it says).")]
BODY_WIDTH = 80


@app.command(
    epilog=examples("isos memory show", "isos memory show plan/ --at 2026-01-31T12:00:00", "isos memory show --at 3")
)
def show(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="A key, or the beginning of keys.")] = "",
    at: AtOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show all keys, or those that begin with KEY. Exit code 3 when there is none, or --at is not reached."""
    view = _view(ctx, at)
    rows = [row for row in view_rows(view) if row["key"].startswith(key)]
    if key and not rows:
        typer.echo(f"Memory has no key that begins with {key} at sequence {view.sequence}.", err=True)
        raise typer.Exit(3)
    if output is Output.TABLE:
        when = f", {_time(view.time_us)}" if view.sequence else ": empty"
        typer.echo(f"memory at sequence {view.sequence}{when}", err=True)
        rows = [{**row, "body": _short(row["body"])} for row in rows]
    write(rows, output)


@app.command(epilog=examples("isos memory history plan/digits"))
def history(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="The key.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every change of KEY, oldest first. Each with who made it and why. Exit code 3 when there was none."""
    rows = history_rows(read_events(ctx), key)
    if not rows:
        typer.echo(f"Memory never had a key {key}. `isos memory show` lists the keys.", err=True)
        raise typer.Exit(3)
    if output is Output.TABLE:
        columns = ("sequence", "time", "kind", "version", "agent", "reason")
        rows = [{name: row[name] for name in columns} for row in rows]
    write(rows, output)


@app.command(epilog=examples("isos memory export memory.json", "isos memory export --at 3"))
def export(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="File to write; stdout when none is given.")] = None,
    at: AtOption = "",
) -> None:
    """Write memory as one JSON document. It holds the sequence, the hash of the last event, and every key."""
    view = _view(ctx, at)
    text = json.dumps(document(view), indent=2) + "\n"
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(f"{file} cannot be written: {error.strerror}.", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(view.entries)} keys at sequence {view.sequence} written to {file}.", err=True)


@app.command(epilog=examples("isos memory verify", "isos memory verify --head 41:9f86d081... --output json"))
def verify(
    ctx: typer.Context,
    head: HeadOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that memory is what its one writer wrote, and print its head, to be kept somewhere else.

    Checked are the chain of memory.events, that each record can be read, that no offset is empty but for transaction
    markers, that memory.state says what the events say, and that the heads which the Orchestrator signed in the audit
    log stand in it (signed: the last sequence that one says). Records that somebody else wrote, and readers refuse, are
    listed as void; they break nothing. What was changed or cut off behind the last signed head, of the last minute,
    shows by memory.state until the Orchestrator starts again, and by --head for good.

    Exit code 7 when something is broken, with the first bad record; 3 when there is no such topic.
    """
    report = check(ctx, noted(head))
    document = verified(report)
    write([{name: document[name] for name in VERIFIED}], output, document)
    tell("broken", report.faults)
    tell("void", report.voids)
    if report.faults:
        raise typer.Exit(7)


VERIFIED = ("sound", "head", "offset", "signed", "records", "markers", "keys", "num_faults", "num_voids")


def check(ctx: typer.Context, noted: MemoryHead | None) -> Report:
    """Check the memory of this process's settings; exit code 6 when the broker does not answer, 3 without topics."""
    from infra.audit_check import signed_memory_heads
    from infra.memory_check import check_memory
    from streams.audit_chain import LOG
    from streams.chain_check import EVENTS, STATE
    from streams.connection import Connection
    from streams.provision import topic_partitions

    connection = Connection(settings_of(ctx).bootstrap)

    async def run() -> Report | None:
        found = await topic_partitions(connection, [EVENTS, STATE, LOG])
        if not {EVENTS, STATE} <= found.keys():
            return None
        signed = await signed_memory_heads(connection) if LOG in found else ()
        return await check_memory(connection, noted, progress, signed)

    with broker_answers(), shown_progress() as progress:
        report = asyncio.run(run())
    if report is None:
        typer.echo("The broker has no topics of memory; `isos topics provision` creates them.", err=True)
        raise typer.Exit(3)
    return report


def verified(report: Report) -> dict[str, Any]:
    """A report as one JSON document; ``faults`` begins with the first bad record."""
    from streams.link_check import head_text

    return {
        "sound": not report.faults,
        "head": head_text(report.head),
        "sequence": report.head.sequence,
        "hash": report.head.last_hash.hex(),
        "offset": report.head_offset,
        "signed": report.signed,
        "end": report.end,
        "records": report.num_records,
        "markers": report.num_markers,
        "keys": report.num_keys,
        "num_faults": len(report.faults),
        "num_voids": len(report.voids),
        "faults": [finding_document(each) for each in report.faults],
        "voids": [finding_document(each) for each in report.voids],
    }


def read_events(ctx: typer.Context) -> list[StoredEvent]:
    """The chain of memory from the broker of this process's settings; exit code 6 when it does not answer."""
    from infra.log_reader import LogReader
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def read() -> list[StoredEvent]:
        return await (await LogReader.connect(Connection(settings.bootstrap))).memory_events()

    with broker_answers():
        return asyncio.run(read())


def parse_point(text: str) -> tuple[int | None, int | None]:
    """``--at`` as (sequence, None) or (None, time in microseconds). Raises ValueError."""
    if re.fullmatch("[0-9]+", text):
        return int(text), None
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None, int(moment.timestamp() * 1_000_000)


def view_at(events: list[StoredEvent], point: tuple[int | None, int | None]) -> MemoryView:
    """Memory at a sequence or time; both None means now."""
    from streams.memory_fold import at_sequence, at_time, extend
    from streams.memory_view import MemoryView

    sequence, time_us = point
    if sequence is not None:
        return at_sequence(events, sequence)
    if time_us is not None:
        return at_time(events, time_us)
    return extend(MemoryView(), events)[0]


def view_rows(view: MemoryView) -> list[dict[str, Any]]:
    """One row per key, by key."""
    return [
        {
            "key": entry.key,
            "version": entry.version,
            "sequence": entry.sequence,
            "time": _time(entry.time_us),
            "body": json.loads(entry.body),
        }
        for _, entry in sorted(view.entries.items())
    ]


def history_rows(events: list[StoredEvent], key: str) -> list[dict[str, Any]]:
    """One row per change of ``key``."""
    changes = [stored.event for stored in events if stored.event.key == key]
    return [
        {
            "sequence": change.sequence,
            "time": _time(change.time_us),
            "kind": change.kind,
            "version": change.version,
            "agent": change.agent,
            "reason": change.reason,
            "command_id": change.command_id,
            "causes": [f"{cause.topic}-{cause.partition}@{cause.offset}" for cause in change.causes],
            "body": None if change.body is None else json.loads(change.body),
        }
        for change in changes
    ]


def document(view: MemoryView) -> dict[str, Any]:
    """Memory as one JSON document."""
    return {
        "sequence": view.sequence,
        "last_hash": view.last_hash.hex(),
        "time_us": view.time_us,
        "entries": {
            key: {
                "version": entry.version,
                "sequence": entry.sequence,
                "time_us": entry.time_us,
                "body": json.loads(entry.body),
            }
            for key, entry in sorted(view.entries.items())
        },
    }


def _view(ctx: typer.Context, at: str) -> MemoryView:
    """Memory at ``--at``; exit code 3 for a sequence that it has not reached."""
    point = _point(at)
    view = view_at(read_events(ctx), point)
    if point[0] is not None and point[0] > view.sequence:
        typer.echo(f"Memory has reached sequence {view.sequence}; there is no {point[0]} yet.", err=True)
        raise typer.Exit(3)
    return view


def _point(at: str) -> tuple[int | None, int | None]:
    if not at:
        return None, None
    try:
        return parse_point(at)
    except ValueError:
        raise typer.BadParameter(f"{at} is neither a sequence nor a time", param_hint="--at") from None


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _short(body: Any) -> str:
    text = json.dumps(body, separators=(",", ":"))
    return text if len(text) <= BODY_WIDTH else text[: BODY_WIDTH - 1] + "…"
