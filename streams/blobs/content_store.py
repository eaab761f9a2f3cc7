"""Content-addressed files in one folder: ``<root>/ab/abcdef...``, named by the SHA-256 (hex) of their bytes.

A file appears whole or not at all (written aside, flushed, renamed), is never changed, and is hashed again on every
read; its modification time says when it was last wanted. Who refreshes that time and who removes by it hold the same
file's lock (``flock``), so that a file is never removed between the two. Blocking calls: a loop runs them in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.errors import IsosError, RetriableError

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
LEFTOVER_S: Final = 3_600.0
"""Age at which a file that was never named is its dead writer's; a living one needs seconds."""
_ASIDE: Final = ".new-"


class BlobMissingError(IsosError):
    """No blob of this digest is stored."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"no blob {self.digest[:12]} is stored"


class BlobCorruptError(IsosError):
    """A stored blob's bytes are not those of its name; ``found`` says what they are."""

    def __init__(self, digest: str, found: str) -> None:
        super().__init__(digest, found)
        self.digest = digest
        self.found = found

    def __str__(self) -> str:
        return f"the stored blob {self.digest[:12]} holds other bytes ({self.found})"


class StoreUnwritableError(RetriableError):
    """The store's folder cannot be written: no right, or the disk is full."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"the store {self.path} cannot be written: {self.problem}"


class StoreUnreadableError(RetriableError):
    """The store's folder cannot be read: no right, or the disk fails; says nothing about what is in it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"the store {self.path} cannot be read: {self.problem}"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A file of the store: digest (hex), size, and when it was last stored or touched (microseconds since epoch)."""

    digest: str
    size_bytes: int
    touched_us: int


def digest_of(data: bytes) -> str:
    """SHA-256 of a blob, hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class ContentStore:
    """The files below ``root``; safe for threads and processes of one machine."""

    root: Path

    def path(self, digest: str) -> Path:
        """Where the file of a digest stands. Raises BlobMissingError for what is no digest at all."""
        if not DIGEST.fullmatch(digest):
            raise BlobMissingError(digest)
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether a file of that digest stands here (its bytes are checked on reading)."""
        return self.path(digest).is_file()

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest; a damaged file of the same name is replaced, a sound one is touched.

        Raises StoreUnwritableError; nothing half-written is left behind.
        """
        digest = digest_of(data)
        target = self.path(digest)
        try:
            if not self._refresh(target, digest):
                _write(target, data)
        except OSError as error:
            raise StoreUnwritableError(self.root, _reason(error)) from error
        return digest

    def get(self, digest: str) -> bytes:
        """Read a file and check it. Raises BlobMissingError, BlobCorruptError or StoreUnreadableError."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissingError(digest) from None
        except OSError as error:
            raise StoreUnreadableError(self.root, _reason(error)) from error
        found = digest_of(data)
        if found != digest:
            raise BlobCorruptError(digest, found[:12])
        return data

    def touch(self, digest: str) -> bool:
        """Say that a file is wanted now; False when there is none. Raises StoreUnreadableError."""
        try:
            with _held(self.path(digest), fcntl.LOCK_SH) as file:
                if file is not None:
                    os.utime(file)
                return file is not None
        except BlobMissingError:
            return False
        except OSError as error:
            raise StoreUnreadableError(self.root, _reason(error)) from error

    def show(self, digest: str) -> StoredBlob | None:
        """What is stored under a digest, unread; None when nothing is. Raises StoreUnreadableError."""
        try:
            found = self.path(digest).stat()
        except (FileNotFoundError, BlobMissingError):
            return None
        except OSError as error:
            raise StoreUnreadableError(self.root, _reason(error)) from error
        return StoredBlob(digest, found.st_size, found.st_mtime_ns // 1000)

    def blobs(self) -> Iterator[StoredBlob]:
        """Every stored file, in the order of digests. Raises StoreUnreadableError."""
        for folder in self._folders():
            for name in sorted(_names(self.root, folder)):
                blob = self.show(name) if DIGEST.fullmatch(name) else None
                if blob is not None:
                    yield blob

    def remove(self, digest: str, untouched_since_us: int) -> bool:
        """Remove a file unless it was touched at or after that time; False when it stays, also while one uses it."""
        path = self.path(digest)
        try:
            with _held(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as file:
                if file is None or os.fstat(file).st_mtime_ns // 1000 >= untouched_since_us:
                    return False
                path.unlink()
                return True
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreUnwritableError(self.root, _reason(error)) from error

    def remove_leftovers(self, older_than_s: float = LEFTOVER_S) -> int:
        """Remove what killed writers left aside; the number removed. Raises StoreUnwritableError."""
        removed = 0
        oldest_s = time.time() - older_than_s
        for folder in self._folders():
            for name in _names(self.root, folder):
                try:
                    if name.startswith(_ASIDE) and (folder / name).stat().st_mtime < oldest_s:
                        (folder / name).unlink()
                        removed += 1
                except FileNotFoundError:
                    continue  # its writer has named it meanwhile
                except OSError as error:
                    raise StoreUnwritableError(self.root, _reason(error)) from error
        return removed

    def _folders(self) -> list[Path]:
        return [self.root / name for name in sorted(_names(self.root, self.root)) if len(name) == 2]

    def _refresh(self, target: Path, digest: str) -> bool:
        """Touch the file if it stands and is sound; a damaged one is taken away, so that it can be written anew."""
        with _held(target, fcntl.LOCK_EX) as file:
            if file is None:
                return False
            with open(file, "rb", closefd=False) as stream:
                sound = hashlib.file_digest(stream, "sha256").hexdigest() == digest
            if sound:
                os.utime(file)
            else:
                target.unlink()
            return sound


@contextlib.contextmanager
def _held(path: Path, how: int) -> Iterator[int | None]:
    """Descriptor of a file, locked; None when there is none. BlockingIOError when another holds it (LOCK_NB)."""
    while True:
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            yield None
            return
        try:
            fcntl.flock(file, how)
            if os.fstat(file).st_nlink:  # else removed while we waited: another of that name may stand by now
                yield file
                return
        finally:
            os.close(file)


def _write(target: Path, data: bytes) -> None:
    _make(target.parent)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=_ASIDE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:  # also Ctrl-C: leave no half-written file behind
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    _sync(target.parent)  # the rename itself must survive a power cut


def _make(folder: Path) -> None:
    """Make a folder of the fan-out, ours alone, whose entry survives a power cut."""
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(root: Path, folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreUnreadableError(root, _reason(error)) from error


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
