"""``isos blobs``: the tensors that wait in the blob store, and the collection of those that no record can name."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from streams.blobs.blob_collection import Collection
    from streams.blobs.blob_store import LocalBlobStore, StoredBlob

app = new_app(has_verbs=True)

MIN_PREFIX = 4


@app.command("list", epilog=examples("isos blobs list", "isos blobs list --limit 0 --output jsonl"))
def list_blobs(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many, last touched; 0: all.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List stored blobs, the last touched at the end. Exit code 6 when the store cannot be read."""
    blobs = sorted(_read(_store(ctx)), key=lambda blob: (blob.touched_us, blob.digest))
    rows = [_row(blob) for blob in (blobs[-limit:] if limit else blobs)]
    total = sum(blob.size_bytes for blob in blobs)
    write(rows, output, {"num_blobs": len(blobs), "size_bytes": total, "blobs": rows})
    if len(rows) < len(blobs):
        typer.echo(f"{len(rows)} of {len(blobs)} blobs; --limit 0 lists all.", err=True)


@app.command("show", epilog=examples("isos blobs show 2cf24dba5fb0", "isos blobs show 2cf2 --output json"))
def show(
    ctx: typer.Context,
    digest: Annotated[str, typer.Argument(help="SHA-256 of the blob, or its first characters.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a blob and read it: is it what its name says?

    Exit code 3 when there is none, 2 when several begin so, 7 when its bytes are not those of its name, 6 when the
    store cannot be read.
    """
    from schemas.request import BlobRef
    from streams.blobs.blob_store import BlobCorruptError, BlobMissingError

    store = _store(ctx)
    if len(digest) < MIN_PREFIX:
        raise typer.BadParameter(f"give at least {MIN_PREFIX} characters", param_hint="DIGEST")
    found = [blob for blob in _read(store) if blob.digest.startswith(digest.lower())]
    if len(found) > 1:
        raise typer.BadParameter(f"{len(found)} blobs begin so; give more characters", param_hint="DIGEST")
    try:
        if not found:
            raise BlobMissingError(digest)
        asyncio.run(store.get(BlobRef(found[0].digest, found[0].size_bytes)))
        is_sound, problem = True, ""
    except BlobMissingError as error:
        typer.echo(f"{error}; `isos blobs list` shows what there is.", err=True)
        raise typer.Exit(3) from None
    except BlobCorruptError as error:
        is_sound, problem = False, str(error)
    row = {**_row(found[0]), "sound": is_sound, "path": str(store.path(found[0].digest))}
    write([row], output, row)
    if not is_sound:
        typer.echo(f"{problem}; requests that name it end with blob_corrupt until it is stored anew.", err=True)
        raise typer.Exit(7)


@app.command("collect", epilog=examples("isos blobs collect --dry-run", "isos blobs collect --output json"))
def collect(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove the blobs that no retained record can name.

    The stack does so by itself each `blob_collect_s`. Exit code 6, with nothing removed, when the broker cannot be
    asked for what it retains.
    """
    from contextlib import nullcontext

    from infra.audit_trail import audited
    from infra.blobs import collect_blobs
    from streams.connection import Connection

    settings = settings_of(ctx)
    work = collect_blobs(settings, Connection(settings.bootstrap), dry_run=dry_run)
    with broker_answers(), nullcontext() if dry_run else audited(settings, "blobs.collect", held=True) as operation:
        done = asyncio.run(work)
        if operation is not None:
            operation.metric("num_removed", len(done.removed))
    write([_summary(done)], output, {**_summary(done), "blobs": [blob.digest for blob in done.removed]})


def _store(ctx: typer.Context) -> LocalBlobStore:
    from infra.blobs import blob_store

    return blob_store(settings_of(ctx))


def _read(store: LocalBlobStore) -> list[StoredBlob]:
    return asyncio.run(store.blobs())


def _row(blob: StoredBlob) -> dict[str, Any]:
    age_s = max(0.0, time.time() - blob.touched_us / 1e6)
    return {
        "digest": blob.digest,
        "size_bytes": blob.size_bytes,
        "touched": _time(blob.touched_us),
        "age_s": round(age_s, 1),
    }


def _summary(done: Collection) -> dict[str, Any]:
    return {
        "dry_run": done.dry_run,
        "removed": len(done.removed),
        "removed_bytes": sum(blob.size_bytes for blob in done.removed),
        "kept_by_letters": len(done.kept_by_letters),
        "younger": done.num_younger,
        "leftovers": done.num_leftovers,
        "touched_before": _time(done.horizon.cutoff_us),
        "oldest_record_in": done.horizon.oldest or None,
    }


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
