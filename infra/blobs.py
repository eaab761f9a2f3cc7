"""The blob store of a stack: where it is, what must be kept, and a collection now and then."""

from __future__ import annotations

import asyncio
import logging

from infra.settings import Settings
from streams.blobs.blob_collection import Collection, collect
from streams.blobs.blob_store import LocalBlobStore
from streams.connection import Connection
from streams.errors import RetriableError

log = logging.getLogger(__name__)


def blob_store(settings: Settings) -> LocalBlobStore:
    """The store below the data directory."""
    return LocalBlobStore.below(settings.data_dir)


def margin_us(settings: Settings) -> int:
    """How much younger than a blob's last touch every retained record must be before it goes, microseconds."""
    return (settings.max_timeout_ms + settings.grace_ms) * 1_000 + settings.blob_keep_s * 1_000_000


async def collect_blobs(settings: Settings, connection: Connection, *, dry_run: bool = False) -> Collection:
    """Remove the blobs that no retained record can name. Raises RetriableError when that cannot be known."""
    return await collect(blob_store(settings), connection, margin_us(settings), dry_run=dry_run)


async def collect_regularly(settings: Settings, connection: Connection) -> None:
    """Collect each ``blob_collect_s`` until cancelled; a collection that cannot be done is logged and left out."""
    while True:
        await asyncio.sleep(settings.blob_collect_s)
        try:
            done = await collect_blobs(settings, connection)
        except RetriableError as error:
            log.warning("no blobs were collected: %s", error)
            continue
        size = sum(blob.size_bytes for blob in done.removed)
        log.info("%d blobs of %d bytes and %d leftovers were collected", len(done.removed), size, done.num_leftovers)
