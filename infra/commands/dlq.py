"""``isos dlq``: the dead letters, what is wrong with each, and sending them again."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import shown_progress
from infra.commands.tail import plain, short_name
from infra.letter_view import Filter, described, row, select
from streams.errors import PoisonRecordError
from streams.topics import full_name

if TYPE_CHECKING:
    from streams.connection import Connection
    from streams.letters.letter import Letter
    from streams.letters.letter_log import LetterFold, StoredLetter
    from streams.letters.redrive import Redriven

app = new_app(has_verbs=True)

MESSAGE_WIDTH: Final = 60
MAX_NAMED: Final = 100
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

CodeOption = Annotated[str, typer.Option("--code", help="Only letters with this error code.")]
StageOption = Annotated[str, typer.Option("--stage", help="Only letters that this stage wrote: edge, router, ...")]
TopicOption = Annotated[str, typer.Option("--topic", help="Only letters of this topic, by its short or full name.")]
SinceOption = Annotated[str, typer.Option("--since", help="Written since: a time (ISO 8601), or 30m, 2h, 1d ago.")]
UntilOption = Annotated[str, typer.Option("--until", help="Written until, in the same forms.")]


@app.command("list", epilog=examples("isos dlq list", "isos dlq list --code unknown_schema --since 2h --output json"))
def list_letters(
    ctx: typer.Context,
    code: CodeOption = "",
    stage: StageOption = "",
    topic: TopicOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many, the newest; 0: all.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List dead letters, the newest last. Exit code 3 when there is no topic of dead letters."""
    fold = _read(_connection(ctx))
    found = select(fold, Filter(code, stage, topic, *_period(since, until)))
    rows = [row(each, fold) for each in (found[-limit:] if limit else found)]
    if output is Output.TABLE:
        rows = [{**each, "message": _cut(each["message"])} for each in rows]
    write(rows, output)
    if len(rows) < len(found):
        typer.echo(f"{len(rows)} of {len(found)} letters; --limit 0 shows all.", err=True)


@app.command(epilog=examples("isos dlq show inference.requests/0/17"))
def show(
    ctx: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `isos dlq list` shows it.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one letter: where it came from, what is wrong, what can be done, its key, headers and value.

    Exit code 3 when there is no such letter.
    """
    connection = _connection(ctx)
    stored = _one(_read(connection), letter_id)
    with broker_answers():
        letter, decoded = asyncio.run(_whole(connection, stored))
    document = described(stored, letter, decoded)
    if output is Output.TABLE:
        write([{"field": name, "value": _line(value)} for name, value in document.items()], output)
    else:
        write([document], output, document)


@app.command(
    epilog=examples(
        "isos dlq redrive inference.requests/0/17",
        "isos dlq redrive --code unknown_schema --since 1d --dry-run",
        "isos dlq redrive --all --rate 200",
    )
)
def redrive(
    ctx: typer.Context,
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Letters to send again.")] = None,
    code: CodeOption = "",
    stage: StageOption = "",
    topic: TopicOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    everything: Annotated[bool, typer.Option("--all", help="All letters.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also letters that were sent again before.")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0, help="At most so many per second; 0: no limit.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send letters again, each as a new record on the topic and partition it came from.

    The new record names the old one in the header isos-redriven-from, and gets a result of its own; the old result
    stays. Exit code 3 for an id that is not there, 4 when a letter named by its id cannot be sent again, 1 when the
    broker refused one.
    """
    from infra.audit_trail import audited
    from streams.audit_operation import Facts

    chosen_by = (code, stage, topic, since, until)
    if bool(letter_ids) == (everything or any(chosen_by)):
        raise typer.BadParameter(
            "name letters, or choose them with --code, --stage, --topic, --since, --until or --all"
        )
    connection = _connection(ctx)
    fold = _read(connection)
    if letter_ids:
        chosen = list({each.offset: each for each in (_one(fold, each) for each in letter_ids)}.values())
    else:
        chosen = select(fold, Filter(code, stage, topic, *_period(since, until)))
    ready, refused = _divide(connection, chosen, again=again)
    if letter_ids and refused:
        for each in refused:
            typer.echo(f"{each.stored.full_id} is not sent: {each.reason}.", err=True)
        raise typer.Exit(4)
    if dry_run or not ready:
        _finish([*refused, *_send(connection, ready, rate, dry_run=dry_run)], output, dry_run=dry_run)
        return
    with audited(settings_of(ctx), "dlq.redrive", Facts(resources=(f"letters={len(ready)}",))) as operation:
        outcomes = _send(connection, ready, rate, dry_run=False)
        operation.affected(*(each.stored.full_id for each in outcomes[:MAX_NAMED] if each.to))
        operation.metric("num_sent", sum(bool(each.to) for each in outcomes))
        _finish([*refused, *outcomes], output, dry_run=False)


def _divide(
    connection: Connection, chosen: Sequence[StoredLetter], *, again: bool
) -> tuple[list[StoredLetter], list[Redriven]]:
    """Letters that can be sent again, and the others with the reason."""
    from streams.letters.redrive import REDRIVABLE, Redriven, why_not
    from streams.provision import topic_partitions

    with broker_answers():
        found = asyncio.run(topic_partitions(connection, [short_name(each) for each in REDRIVABLE]))
    partitions = {full_name(name): count for name, count in found.items()}
    reasons = [(each, why_not(each, partitions, again=again)) for each in chosen]
    ready = [each for each, reason in reasons if not reason]
    return ready, [Redriven(each, reason=reason) for each, reason in reasons if reason]


def _send(connection: Connection, ready: list[StoredLetter], rate: float, *, dry_run: bool) -> list[Redriven]:
    from streams.letters.redrive import Redriven
    from streams.letters.redrive import redrive as run

    if dry_run or not ready:
        return [Redriven(each) for each in ready]
    with broker_answers(), shown_progress() as progress:
        return asyncio.run(run(connection, ready, rate_per_s=rate, progress=progress))


def _finish(outcomes: list[Redriven], output: Output, *, dry_run: bool) -> None:
    rows = [
        {"id": each.stored.full_id, "code": each.stored.letter.code, "sent_as": each.to or None, "note": each.reason}
        for each in outcomes
    ]
    sent = sum(bool(each.to) for each in outcomes)
    left = sum(bool(each.reason) and not each.to for each in outcomes)
    would = len(outcomes) - left if dry_run else 0
    write(rows, output, {"sent": sent, "would_send": would, "not_sent": left, "letters": rows})
    typer.echo(f"{would} would be sent, {left} not." if dry_run else f"{sent} sent again, {left} not.", err=True)
    if any(each.failed for each in outcomes):
        raise typer.Exit(1)


async def _whole(connection: Connection, stored: StoredLetter) -> tuple[Letter, Any]:
    """The letter with its value, and what the value says when it is decoded with the schemas of now."""
    from streams.codec import Codec
    from streams.letters.letter_log import read_one
    from streams.registry.schema_log import read_schema_ids

    letter = await read_one(connection, stored)
    if letter is None:
        raise typer.Exit(3)
    if letter.value is None:
        return letter, None
    try:
        codec = Codec(await read_schema_ids(connection))
        return letter, plain(codec.decode(short_name(letter.where.topic), letter.value))
    except PoisonRecordError as error:
        return letter, {"undecodable": error.code, "message": error.message}


def _read(connection: Connection) -> LetterFold:
    from streams.letters.letter_log import read_letters
    from streams.provision import topic_partitions

    async def read() -> LetterFold | None:
        if not await topic_partitions(connection, ["inference.dlq"]):
            return None
        return await read_letters(connection, progress)

    with broker_answers(), shown_progress() as progress:
        fold = asyncio.run(read())
    if fold is None:
        typer.echo("There is no topic of dead letters; `isos topics provision` creates it.", err=True)
        raise typer.Exit(3)
    return fold


def _one(fold: LetterFold, letter_id: str) -> StoredLetter:
    found = fold.find(letter_id)
    if not found:
        typer.echo(f"There is no dead letter {letter_id}; `isos dlq list` shows them.", err=True)
        raise typer.Exit(3)
    if len(found) > 1:
        names = ", ".join(each.full_id for each in found)
        raise typer.BadParameter(f"{letter_id} names several letters: {names}", param_hint="ID")
    return found[0]


def _connection(ctx: typer.Context) -> Connection:
    from streams.connection import Connection

    return Connection(settings_of(ctx).bootstrap)


def _period(since: str, until: str) -> tuple[int, int]:
    now_ms = time.time_ns() // 1_000_000
    return (
        parse_time(since, now_ms, "--since") if since else 0,
        parse_time(until, now_ms, "--until") if until else 1 << 62,
    )


def parse_time(text: str, now_ms: int, option: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 time (UTC unless it says otherwise) or a span before now."""
    if span := re.fullmatch(r"(\d+)([smhd])", text):
        return now_ms - int(timedelta(**{UNITS[span[2]]: int(span[1])}).total_seconds() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a time nor a span like 30m, 2h, 1d", param_hint=option) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_WIDTH else text[: MESSAGE_WIDTH - 1] + "…"


def _line(value: Any) -> Any:
    return value if isinstance(value, str | int | None) else json.dumps(value, ensure_ascii=False)
