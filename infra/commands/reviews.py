"""``isos reviews``: what waits for a person, and the votes on it; who may sign."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.review_control import ReviewControl
    from infra.settings import Settings
    from schemas.environment import Signer
    from schemas.review import ReviewDecision, ReviewRequest, Validation
    from streams.memory_view import MemoryView

app = new_app(has_verbs=True)

LISTED: Final = ("review_id", "author", "subject", "state", "decided_by", "deadline")
IdArgument = Annotated[str, typer.Argument(help="Id of the review, as `isos reviews list` shows it.")]
ReasonOption = Annotated[str, typer.Option(help="Why, in one sentence; it is signed and kept.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="Your private key; default: setting review_key_file.", show_default=False)
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(help="File whose first line is the key's passphrase; default: setting review_passphrase_file, else "
                 "it is asked for.", show_default=False),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What was read: memory, and the topics of requests, decisions and checks."""

    view: MemoryView
    requests: list[ReviewRequest]
    decisions: list[ReviewDecision]
    validations: list[Validation]


@app.command("list", epilog=examples("isos reviews list", "isos reviews list --all --output jsonl"))
def list_(
    ctx: typer.Context,
    decided: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the open requests, the nearest deadline first."""
    found = _read(ctx)
    rows = [row for row in _rows(found) if decided or row["state"] == "waiting"]
    if not rows and output is Output.TABLE:
        typer.echo("Nothing waits for a review.", err=True)
        return
    if output is Output.TABLE:
        rows = [{name: row[name] or None for name in LISTED} for row in rows]
    write(rows, output)


@app.command(epilog=examples("isos reviews show r41"))
def show(ctx: typer.Context, review_id: IdArgument, output: OutputOption = Output.YAML) -> None:
    """Show one request with its evidence and decision. Exit code 3 when there is none."""
    from infra.review_list import document

    found = _read(ctx)
    rows = [row for row in _rows(found) if row["review_id"] == review_id]
    if not rows:
        typer.echo(f"There is no review {review_id}. `isos reviews list --all` shows what there is.", err=True)
        raise typer.Exit(3)
    if output is Output.TABLE:
        write([{name: rows[0][name] or None for name in (*LISTED, "reason")}], output)
        return
    shown = document(rows[0], found.view, found.validations)
    write([shown], output, shown)


@app.command(
    epilog=examples(
        'isos reviews approve r41 --reason "accuracy 0.97"',
        "isos reviews approve r41 --reason ok --key bob.pem -o json",
    )
)
def approve(
    ctx: typer.Context,
    review_id: IdArgument,
    reason: ReasonOption,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Sign an approval of what somebody else asked for, and wait for what becomes of it.

    Exit code 3 for an unknown review or key file, 4 when the approval does not count (by its own author, not
    registered, too late, used) or the command is refused all the same, 5 when nobody answers in time.
    """
    _vote(_signing(ctx, key, passphrase_file), review_id, "approved", reason, output)


@app.command(epilog=examples('isos reviews reject r41 --reason "drift is not explained"'))
def reject(
    ctx: typer.Context,
    review_id: IdArgument,
    reason: ReasonOption,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Sign a rejection; an author may withdraw so. Exit codes as of `approve`."""
    _vote(_signing(ctx, key, passphrase_file), review_id, "rejected", reason, output)


@app.command(
    epilog=examples(
        "isos reviews keygen --name alice --passphrase",
        "isos reviews keygen --name bob --key bob.pem",
        "isos reviews keygen --name ci --key ci.pem --passphrase-file secret.txt",
    )
)
def keygen(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Your name: letters, digits, _, . and -.")],
    key: KeyOption = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask twice for a passphrase that the new key is to have.")
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key pair, unless the file holds one, and register its public key under your name.

    The first person is believed. Every other one waits for the approval of somebody who is registered already; the
    development policy of a sandbox approves by itself. Exit code 4 when the name or the key is taken, the key file is
    open to others or the passphrase is wrong, 5 when nobody answers in time; the key stays, repeat the command.
    """
    from agents.review_rules import NAME, PROCESSES, RESERVED
    from infra.passphrase import new_passphrase, unlock_by
    from infra.review_control import ReviewControl
    from infra.review_keys import key_path, read_or_make_key
    from streams.signing import key_id

    if not NAME.fullmatch(name) or name in (*RESERVED, *PROCESSES):
        what = "is no name of 1 to 64 letters, digits, _ . -, or one of our own"
        raise typer.BadParameter(f"{name!r} {what}", param_hint="--name")
    settings = _signing(ctx, key, passphrase_file)
    path, file = key_path(settings.review_key_file), settings.review_passphrase_file
    lock = functools.partial(new_passphrase, file=file) if passphrase or passphrase_file else None
    is_new = not path.exists()
    private_key = read_or_make_key(path, unlock_by(file), lock)
    if is_new:
        typer.echo(f"Made the key {path}{' with its passphrase' if lock else ''}.", err=True)

    async def run(control: ReviewControl) -> Signer:
        return await control.register(name, private_key)

    signer = controlled(settings, ReviewControl, run)
    if output is Output.TABLE:
        typer.echo(f"{name} may sign with {path} (key {key_id(signer.public_key)}).")
        return
    row = {**signer_row(signer), "file": str(path)}
    write([row], output, row)


@app.command(epilog=examples("isos reviews revoke alice", "isos reviews revoke alice --key bob.pem --output json"))
def revoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A registered signer.")],
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a person's key at once; what it signed and was done stays, what it asked for and waits is refused.

    Somebody registered signs this, for another's key or their own; the development policy of a sandbox does without.
    Outside a sandbox the end of the audit log's key (orchestrator) waits for the approval of a second person. Exit
    code 3 for an unknown name or key file, 4 without such a signature, or for the last person's key outside a sandbox.
    """
    from infra.passphrase import unlock_by
    from infra.review_control import ReviewControl
    from infra.review_keys import key_path, read_key

    settings = _signing(ctx, key, passphrase_file)
    unlock = unlock_by(settings.review_passphrase_file)
    private_key = None if key is None else read_key(key_path(key), unlock)  # else it is read where it is needed

    async def run(control: ReviewControl) -> Signer:
        return await control.revoke(name, private_key)

    signer = controlled(settings, ReviewControl, run)
    if output is Output.TABLE:
        typer.echo(f"{name} signs no more. `isos reviews keygen --name {name}` registers another key.")
        return
    write([signer_row(signer)], output, signer_row(signer))


@app.command(epilog=examples("isos reviews signers", "isos reviews signers --output json"))
def signers(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List who may sign."""
    from infra.review_control import ReviewControl
    from streams.review_view import signers as all_signers

    async def run(control: ReviewControl) -> list[Signer]:
        return list(all_signers(control.view).values())

    rows = [signer_row(each) for each in controlled(settings_of(ctx), ReviewControl, run)]
    if not rows and output is Output.TABLE:
        typer.echo("Nobody is registered. `isos reviews keygen --name NAME` registers you.", err=True)
        return
    write(rows, output)


def signer_row(signer: Signer) -> dict[str, Any]:
    """A signer as a row; the key by its short id."""
    from streams.signing import key_id

    revoked = datetime.fromtimestamp(signer.revoked_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "name": signer.name, "kind": signer.kind, "key_id": key_id(signer.public_key),
        "public_key": signer.public_key, "revoked": revoked if signer.revoked_us else None,
    }  # fmt: skip


def _signing(ctx: typer.Context, key: Path | None, passphrase_file: Path | None) -> Settings:
    """The settings, with the key and the passphrase's file that a command was given."""
    flags = {"review_key_file": key, "review_passphrase_file": passphrase_file}
    return settings_of(ctx, **{name: None if path is None else str(path) for name, path in flags.items()})


def _vote(settings: Settings, review_id: str, decision: str, reason: str, output: Output) -> None:
    from agents.approval import MAX_REASON
    from infra.passphrase import unlock_by
    from infra.review_control import ReviewControl, VoteOutcome
    from infra.review_keys import key_path, read_key

    if not 1 <= len(reason.strip()) <= MAX_REASON:
        raise typer.BadParameter(f"say why in 1 to {MAX_REASON} characters", param_hint="--reason")
    private_key = read_key(key_path(settings.review_key_file), unlock_by(settings.review_passphrase_file))

    async def run(control: ReviewControl) -> VoteOutcome:
        return await control.vote(review_id, decision, reason.strip(), private_key)

    done = controlled(settings, ReviewControl, run)
    subject = done.review.request.subject
    if output is Output.TABLE:
        what = f"{review_id} is {decision} by {done.vote.signer}"
        end = f"{subject} is done" if decision == "approved" else f"{subject} is dropped"
        typer.echo(
            f"{what}; {done.refusal.rstrip('.') or end} (memory {done.memory_sequence}).", err=bool(done.refusal)
        )
    else:
        row = {
            "review_id": review_id, "decision": decision, "signer": done.vote.signer, "subject": subject,
            "refused": done.refusal or None, "memory_sequence": done.memory_sequence,
        }  # fmt: skip
        write([row], output, row)
    if done.refusal:
        raise typer.Exit(4)


def _rows(found: Found) -> list[dict[str, Any]]:
    from infra.review_list import review_rows

    return review_rows(found.view, found.requests, found.decisions, time.time_ns() // 1000)


def _read(ctx: typer.Context) -> Found:
    from infra.log_reader import LogReader
    from streams.connection import Connection
    from streams.memory_fold import extend
    from streams.memory_view import MemoryView

    settings = settings_of(ctx)

    async def read() -> Found:
        reader = await LogReader.connect(Connection(settings.bootstrap))
        topics = ("control.review-requests", "control.review-decisions", "control.validations")
        requests, decisions, validations = [[each.record for each in await reader.read(topic)] for topic in topics]
        view, _ = extend(MemoryView(), await reader.memory_events())
        return Found(view, requests, decisions, validations)

    with broker_answers():
        return asyncio.run(read())
