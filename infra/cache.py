"""Composition of the result cache: its secret and its two levels, from settings."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from infra.settings import Settings, StartError
from streams.cache.store import CacheStore
from streams.cache.values import Seal

log = logging.getLogger(__name__)

SECRET_BYTES: Final = 32
MIN_SECRET_BYTES: Final = 16


def cache_secret(settings: Settings) -> bytes:
    """Read the secret that cached answers are authenticated with; the default file is made when there is none.

    Where the default file can be neither read nor made, the secret is this process's own: then nobody shares its
    answers, which is as good as no cache.

    Raises:
        StartError: when a file that was named by the setting cannot be read, or is too short for a secret.
    """
    path = settings.cache_key_path
    try:
        if not settings.cache_key_file and not path.exists():
            _make(path)
        secret = path.read_bytes().strip()
    except OSError as error:
        reason = error.strerror or str(error)
        if settings.cache_key_file:
            raise StartError(f"The cache's key {path} cannot be read: {reason} (setting cache_key_file).") from error
        log.warning("the cache's key %s cannot be had (%s): nothing is cached", path, reason)
        return secrets.token_bytes(SECRET_BYTES)
    if len(secret) < MIN_SECRET_BYTES:
        raise StartError(f"The cache's key {path} holds fewer than {MIN_SECRET_BYTES} bytes; delete or replace it.")
    return secret


def _make(path: Path) -> None:
    """Make the file whole or not at all; of several processes that try, one succeeds and all read the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_hex(SECRET_BYTES).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


@contextlib.asynccontextmanager
async def open_cache(settings: Settings, *, local_bytes: int) -> AsyncIterator[CacheStore]:
    """Open both levels, the process's own of ``local_bytes``; connects to Redis when it is first asked."""
    seal = Seal(cache_secret(settings))
    store = CacheStore(settings.redis_address, seal, max_bytes=settings.cache_bytes, local_bytes=local_bytes)
    try:
        yield store
    finally:
        await store.close()
