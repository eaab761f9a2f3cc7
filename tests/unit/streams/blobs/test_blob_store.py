"""The local blob store keeps the interface's promises."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from schemas.request import BlobRef
from streams.blobs.blob_store import (
    FOLDER,
    MAX_BLOB_BYTES,
    BlobCorruptError,
    BlobMissingError,
    BlobStore,
    BlobTooLargeError,
    LocalBlobStore,
)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return LocalBlobStore.below(tmp_path)


async def test_what_was_put_comes_back(store: BlobStore, tmp_path: Path) -> None:
    ref = await store.put(b"tensors")
    assert ref == BlobRef(hashlib.sha256(b"tensors").hexdigest(), 7)
    assert await store.get(ref) == b"tensors"
    assert await store.put(b"tensors") == ref
    assert [(blob.digest, blob.size_bytes) for blob in await store.blobs()] == [(ref.digest, 7)]
    assert (tmp_path / FOLDER / ref.digest[:2] / ref.digest).read_bytes() == b"tensors"


async def test_missing_and_corrupt(store: LocalBlobStore) -> None:
    ref = await store.put(b"tensors")
    with pytest.raises(BlobMissingError):
        await store.get(BlobRef("0" * 64, 7))
    with pytest.raises(BlobMissingError):
        await store.get(BlobRef("../" * 22, 7))
    with pytest.raises(BlobCorruptError, match="7 bytes"):
        await store.get(BlobRef(ref.digest, 8))
    store.path(ref.digest).write_bytes(b"TENSORS")
    with pytest.raises(BlobCorruptError, match="holds other bytes"):
        await store.get(ref)


async def test_the_limit(store: BlobStore) -> None:
    with pytest.raises(BlobTooLargeError, match=str(MAX_BLOB_BYTES)):
        await store.put(bytes(MAX_BLOB_BYTES + 1))
    ref = await store.put(bytes(MAX_BLOB_BYTES))
    assert len(await store.get(ref)) == MAX_BLOB_BYTES


async def test_touch_and_remove(store: LocalBlobStore) -> None:
    ref = await store.put(b"tensors")
    os.utime(store.path(ref.digest), (1, 1))
    assert await store.touch(ref.digest)
    shown = await store.show(ref.digest)
    assert shown is not None
    assert not await store.remove(ref.digest, shown.touched_us)
    assert await store.remove(ref.digest, shown.touched_us + 1)
    assert not await store.touch(ref.digest)
    assert await store.show(ref.digest) is None
    assert await store.remove_leftovers() == 0
