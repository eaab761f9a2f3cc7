"""Files named by content: whole or absent, checked on every read, never removed behind the back of who wants them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.blobs import content_store
from streams.blobs.content_store import (
    BlobCorruptError,
    BlobMissingError,
    ContentStore,
    StoreUnreadableError,
    StoreUnwritableError,
    digest_of,
)

OLD_S = 1_000.0


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def put_old(store: ContentStore, data: bytes, at_s: float = OLD_S) -> str:
    digest = store.put(data)
    os.utime(store.path(digest), (at_s, at_s))
    return digest


def test_put_get_and_show(store: ContentStore) -> None:
    digest = store.put(b"data")
    assert digest == hashlib.sha256(b"data").hexdigest() == digest_of(b"data")
    assert store.path(digest) == store.root / digest[:2] / digest
    assert store.get(digest) == b"data"
    assert store.has(digest)
    shown = store.show(digest)
    assert shown is not None
    assert (shown.digest, shown.size_bytes) == (digest, 4)
    assert abs(shown.touched_us / 1e6 - time.time()) < 60
    assert list(store.blobs()) == [shown]


def test_only_the_owner_may_read(store: ContentStore) -> None:
    path = store.path(store.put(b"data"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_the_same_bytes_twice_are_one_file_which_counts_as_wanted_again(store: ContentStore) -> None:
    digest = put_old(store, b"data")
    file = store.path(digest).stat().st_ino
    assert store.put(b"data") == digest
    assert store.path(digest).stat().st_ino == file
    assert store.path(digest).stat().st_mtime > OLD_S
    assert [path.name for path in store.path(digest).parent.iterdir()] == [digest]


def test_changed_bytes_are_named_and_replaced_by_the_next_put(store: ContentStore) -> None:
    digest = store.put(b"data")
    store.path(digest).write_bytes(b"other")
    with pytest.raises(BlobCorruptError, match=f"{digest[:12]} holds other bytes"):
        store.get(digest)
    assert store.put(b"data") == digest
    assert store.get(digest) == b"data"


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", "", "A" * 64, "0" * 63 + "\n"])
def test_what_is_not_there(store: ContentStore, digest: str) -> None:
    with pytest.raises(BlobMissingError, match="no blob"):
        store.get(digest)
    assert store.touch(digest) is False
    assert store.show(digest) is None
    assert list(store.blobs()) == []


def test_a_folder_that_cannot_be_made_or_read_is_one_sentence(tmp_path: Path) -> None:
    store = ContentStore(tmp_path / "store")
    store.root.write_text("a file in the way")
    with pytest.raises(StoreUnwritableError, match="cannot be written"):
        store.put(b"data")
    for question in (store.get, store.touch, store.show):
        with pytest.raises(StoreUnreadableError, match="cannot be read: Not a directory"):
            question("0" * 64)
    with pytest.raises(StoreUnreadableError):
        list(store.blobs())


def test_a_full_disk_leaves_nothing_and_may_be_tried_again(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(content_store.os, "fsync", full)
        with pytest.raises(StoreUnwritableError, match="the disk is full"):
            store.put(b"data")
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert store.get(store.put(b"data")) == b"data"


def test_only_what_was_not_touched_since_is_removed(store: ContentStore) -> None:
    digest = put_old(store, b"data")
    assert store.remove(digest, int(OLD_S * 1e6)) is False
    assert store.remove(digest, int(OLD_S * 1e6) + 1) is True
    assert store.remove(digest, int(OLD_S * 1e6) + 1) is False
    assert store.has(digest) is False
    digest = put_old(store, b"data")
    assert store.touch(digest) is True
    assert store.remove(digest, int(OLD_S * 1e6) + 1) is False


def test_a_file_that_is_held_is_not_removed(store: ContentStore) -> None:
    digest = put_old(store, b"data")
    with store.path(digest).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert store.remove(digest, 1 << 60) is False
    assert store.remove(digest, 1 << 60) is True


def test_who_waited_for_the_lock_sees_that_the_file_is_gone_or_new(store: ContentStore) -> None:
    """A touch that opened the file before it was removed must not call it stored."""
    digest = put_old(store, b"data")
    path = store.path(digest)
    with ThreadPoolExecutor(1) as pool, path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = pool.submit(store.touch, digest)
        wait_for_lock(path)
        path.unlink()
        fcntl.flock(file, fcntl.LOCK_UN)
        assert waiting.result(10) is False
    digest = put_old(store, b"data")
    with ThreadPoolExecutor(1) as pool, path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = pool.submit(store.touch, digest)
        wait_for_lock(path)
        path.unlink()
        put_old(store, b"data")
        fcntl.flock(file, fcntl.LOCK_UN)
        assert waiting.result(10) is True
    assert path.stat().st_mtime > OLD_S


def wait_for_lock(path: Path) -> None:
    """Until somebody waits for the file's lock, as the kernel lists it."""
    inode = path.stat().st_ino
    until = time.monotonic() + 10
    while time.monotonic() < until:
        waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
        if any(line.split()[6].endswith(f":{inode}") for line in waiting):
            return
        time.sleep(0.005)
    pytest.fail("nobody waits for the lock")


def test_nothing_touched_is_ever_lost_to_a_collector_beside_it(store: ContentStore) -> None:
    """Threads touch or store while others remove what is old: whoever was told that it stands finds it."""
    data = [bytes([number]) * 50 for number in range(4)]
    digests = [digest_of(each) for each in data]
    stop = threading.Event()

    def collect() -> int:
        removed = 0
        while not stop.is_set():
            for digest in digests:
                removed += store.remove(digest, int(OLD_S * 1e6) + 1)
        return removed

    def want(seed: int) -> int:
        lost = 0
        for turn in range(300):
            number = (turn + seed) % len(data)
            if turn % 3 == 0:
                store.put(data[number])
                told = True
            else:
                told = store.touch(digests[number])
            if told:
                lost += store.show(digests[number]) is None
        return lost

    with ThreadPoolExecutor(4) as pool:
        collectors = [pool.submit(collect) for _ in range(2)]
        assert [each.result(60) for each in [pool.submit(want, seed) for seed in range(2)]] == [0, 0]
        for digest in digests:  # by now nobody wants them
            put_old(store, data[digests.index(digest)])
        until = time.monotonic() + 10
        while list(store.blobs()) and time.monotonic() < until:
            time.sleep(0.005)
        stop.set()
        assert sum(each.result(10) for each in collectors) >= len(data)
    assert list(store.blobs()) == []


def test_leftovers_of_a_killed_writer_are_removed_when_they_are_old(store: ContentStore) -> None:
    digest = store.put(b"data")
    folder = store.path(digest).parent
    for name, age_s in ((".new-dead", 7_200), (".new-alive", 10)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    assert [blob.digest for blob in store.blobs()] == [digest]
    assert store.remove_leftovers() == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([".new-alive", digest])
    assert store.remove_leftovers(older_than_s=1) == 1
