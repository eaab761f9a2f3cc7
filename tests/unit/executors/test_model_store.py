"""Blobs: named by content, whole or absent, checked on every read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from executors.model_store import BlobCorruptError, BlobMissingError, ModelStore, StoreUnwritableError


def test_put_and_get(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digest = store.put(b"blob")
    assert digest == hashlib.sha256(b"blob").hexdigest()
    assert store.path(digest) == tmp_path / "blobs" / "sha256" / digest[:2] / digest
    assert store.get(digest) == b"blob"
    assert store.has(digest)


def test_the_same_blob_twice_is_one_file(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digest = store.put(b"blob")
    file = store.path(digest).stat().st_ino
    assert store.put(b"blob") == digest
    assert store.path(digest).stat().st_ino == file
    assert [path.name for path in store.path(digest).parent.iterdir()] == [digest]


def test_changed_bytes_are_named_and_replaced_by_the_next_put(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digest = store.put(b"blob")
    store.path(digest).write_bytes(b"other")
    with pytest.raises(BlobCorruptError, match="holds other bytes"):
        store.get(digest)
    store.put(b"blob")
    assert store.get(digest) == b"blob"


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_what_is_not_there(tmp_path: Path, digest: str) -> None:
    with pytest.raises(BlobMissingError):
        ModelStore(tmp_path).get(digest)


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file in the way")
    with pytest.raises(StoreUnwritableError, match="cannot be written"):
        ModelStore(tmp_path).put(b"blob")
