"""``isos audit``: who did what, whether the log of it is whole, and the log as JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from infra.audit_view import Filter, document, row
from infra.commands.dlq import parse_time
from infra.commands.findings import HeadOption, finding_document, noted, tell
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import shown_progress

if TYPE_CHECKING:
    from infra.settings import Settings
    from schemas.audit import AuditEntry
    from streams.audit_check import AuditReport
    from streams.link_check import Finding

app = new_app(has_verbs=True)

SinceOption = Annotated[str, typer.Option("--since", help="Recorded since: a time (ISO 8601), or 30m, 2h, 1d ago.")]
UntilOption = Annotated[str, typer.Option("--until", help="Done until, in the same forms.")]
OperationOption = Annotated[str, typer.Option("--operation", help="Only this operation, or those that begin so.")]
ModelOption = Annotated[str, typer.Option("--model", help="Only operations on this model.")]
UserOption = Annotated[str, typer.Option("--user", help="Only operations of this user, agent or process.")]
TicketOption = Annotated[str, typer.Option("--ticket", help="Only operations of this change ticket.")]
OUTCOMES: Final = ("pending", "done", "refused", "failed", "unknown")
OutcomeOption = Annotated[str, typer.Option("--outcome", help=f"Only this outcome: {', '.join(OUTCOMES)}.")]
VERIFIED: Final = ("sound", "head", "offset", "entries", "heads", "markers", "signed", "num_faults", "num_voids")


@app.command(
    "list",
    epilog=examples(
        "isos audit list --since 2h",
        "isos audit list --operation memory.VersionRolledBack --model digits",
        "isos audit list --user alice --outcome refused --output json",
    ),
)
def list_records(
    ctx: typer.Context,
    since: SinceOption = "",
    until: UntilOption = "",
    operation: OperationOption = "",
    model: ModelOption = "",
    user: UserOption = "",
    ticket: TicketOption = "",
    outcome: OutcomeOption = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many, the newest; 0: all.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what was done, the newest last; each operation has a record before and one after it.

    Exit code 3 when there is no audit log.
    """
    if outcome not in ("", *OUTCOMES):
        raise typer.BadParameter(f"{outcome!r} is none of {', '.join(OUTCOMES)}", param_hint="--outcome")
    wanted = Filter(operation, model, user, ticket, outcome, _time_us(until, "--until") or 1 << 62)
    rows: deque[dict[str, Any]] = deque(maxlen=limit or None)
    num = 0

    def take(offset: int, entry: AuditEntry) -> None:
        nonlocal num
        if entry.record is not None and wanted.wants(entry.record):
            num += 1
            rows.append((row if output is Output.TABLE else document)(entry, entry.record))

    _read(ctx, _time_us(since, "--since"), take)
    if not rows and output is Output.TABLE:
        typer.echo("The audit log has no such record.", err=True)
        return
    write(list(rows), output)
    if len(rows) < num:
        typer.echo(f"{len(rows)} of {num} records; --limit 0 shows all.", err=True)


@app.command(epilog=examples("isos audit export audit.jsonl", "isos audit export --since 1d | gzip > today.jsonl.gz"))
def export(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="File to write; stdout when none is given.")] = None,
    since: SinceOption = "",
    until: UntilOption = "",
) -> None:
    """Write the log as JSON lines, one record each, for a log stack. Exit code 3 when there is no audit log."""
    wanted = Filter(until_us=_time_us(until, "--until") or 1 << 62)
    since_us, num = _time_us(since, "--since"), 0
    _require_log(settings_of(ctx))  # before a file that stands is written over
    with _opened(file) as out:

        def take(offset: int, entry: AuditEntry) -> None:
            nonlocal num
            if entry.record is not None and wanted.wants(entry.record):
                num += 1
                out.write(json.dumps(document(entry, entry.record)) + "\n")

        _read(ctx, since_us, take)
    typer.echo(f"{num} records written{'' if file is None else f' to {file}'}.", err=True)


@app.command(epilog=examples("isos audit verify", "isos audit verify --head 41:9f86d081... --output json"))
def verify(
    ctx: typer.Context,
    head: HeadOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that the audit log is what the Orchestrator wrote, and print its head, to be kept somewhere else.

    Checked are the hash chain, that no offset is empty but for transaction markers, that nothing is recorded twice,
    and the signatures of the heads by the public key in memory. An end that was cut off right behind a signed head
    shows by --head, and by the head that the Orchestrator noted in its data directory where this is the machine.

    Exit code 7 when something is broken, or somebody else wrote into the log, with the first bad record; 3 when there
    is no audit log.
    """
    report, faults = _check(ctx, head)
    found = _verified(report, faults)
    write([{name: found[name] for name in VERIFIED}], output, found)
    tell("broken", faults)
    tell("foreign", report.voids)
    if faults or report.voids:
        raise typer.Exit(7)


def _check(ctx: typer.Context, head: str) -> tuple[AuditReport, tuple[Finding, ...]]:
    from infra.audit_check import check_audit
    from infra.audit_key import noted_head, public_key_here
    from streams.connection import Connection
    from streams.link_check import Anchor, Finding

    settings = settings_of(ctx)
    heads = [each for each in (noted(head), noted_head(settings)) if each is not None]
    _require_log(settings)
    with broker_answers(), shown_progress() as progress:
        work = check_audit(
            Connection(settings.bootstrap), [Anchor(each) for each in heads], time.time_ns() // 1000, progress
        )
        report, keys = asyncio.run(work)
    here = public_key_here(settings)
    if here and keys and here not in keys:
        what = f"memory has another key of the audit log than {settings.data_dir} has"
        return report, (*report.faults, Finding("memory.events", -1, 0, what))
    return report, report.faults


def _verified(report: AuditReport, faults: tuple[Finding, ...]) -> dict[str, Any]:
    from streams.link_check import head_text

    return {
        "sound": not faults and not report.voids,
        "head": head_text(report.point.head),
        "sequence": report.point.sequence,
        "hash": report.point.last_hash.hex(),
        "offset": report.head_offset,
        "end": report.end,
        "first_sequence": report.first_sequence,
        "entries": report.num_entries,
        "heads": report.num_heads,
        "markers": report.num_markers,
        "signed": report.signed,
        "num_faults": len(faults),
        "num_voids": len(report.voids),
        "faults": [finding_document(each) for each in faults],
        "voids": [finding_document(each) for each in report.voids],
    }


def _read(ctx: typer.Context, since_us: int, take: Callable[[int, AuditEntry], None]) -> None:
    from infra.audit_check import read_entries
    from streams.connection import Connection

    settings = settings_of(ctx)
    _require_log(settings)
    with broker_answers(), shown_progress() as progress:
        asyncio.run(read_entries(Connection(settings.bootstrap), since_us, take, progress))


def _require_log(settings: Settings) -> None:
    """End with exit code 3 where the broker has no audit log."""
    from streams.audit_chain import LOG
    from streams.connection import Connection
    from streams.provision import topic_partitions

    with broker_answers():
        found = asyncio.run(topic_partitions(Connection(settings.bootstrap), [LOG]))
    if not found:
        typer.echo("The broker has no audit log; `isos topics provision` creates it.", err=True)
        raise typer.Exit(3)


@contextmanager
def _opened(file: Path | None) -> Iterator[TextIO]:
    if file is None:
        yield sys.stdout
        return
    try:
        with file.open("w", encoding="utf-8") as out:
            yield out
    except OSError as error:
        typer.echo(f"{file} cannot be written: {error.strerror}.", err=True)
        raise typer.Exit(1) from None


def _time_us(text: str, option: str) -> int:
    return parse_time(text, time.time_ns() // 1_000_000, option) * 1000 if text else 0
