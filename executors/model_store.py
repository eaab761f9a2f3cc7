"""Content-addressed model blobs on disk: ``<root>/blobs/sha256/ab/abcdef...``, named by their SHA-256 (hex).

A blob appears whole or not at all (written aside, flushed, renamed) and is never changed; every read hashes it again.
Writing the same blob twice is one blob.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.errors import IsosError

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class BlobMissingError(IsosError):
    """No blob of this digest is stored."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"no model blob {self.digest[:12]} is stored here; register the model again"


class BlobCorruptError(IsosError):
    """A stored blob's bytes are not those of its name."""

    def __init__(self, digest: str, found: str) -> None:
        super().__init__(digest, found)
        self.digest = digest
        self.found = found

    def __str__(self) -> str:
        return f"the stored blob {self.digest[:12]} holds other bytes ({self.found[:12]}); delete it and register again"


class StoreUnwritableError(IsosError):
    """The store's directory cannot be written: no right, or the disk is full."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"the model store {self.path} cannot be written: {self.problem}"


def digest_of(blob: bytes) -> str:
    """SHA-256 of a blob, hex."""
    return hashlib.sha256(blob).hexdigest()


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Blobs below ``root`` (the data directory)."""

    root: Path

    def path(self, digest: str) -> Path:
        """Where the blob of a digest stands. Raises BlobMissingError for what is no digest at all."""
        if not _DIGEST.fullmatch(digest):
            raise BlobMissingError(digest)
        return self.root / "blobs" / "sha256" / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether a blob of that digest stands here (its bytes are checked on reading)."""
        return self.path(digest).is_file()

    def put(self, blob: bytes) -> str:
        """Store a blob and return its digest; a damaged one of the same name is replaced. StoreUnwritableError."""
        digest = digest_of(blob)
        target = self.path(digest)
        try:
            if not (target.is_file() and digest_of(target.read_bytes()) == digest):
                _write_atomically(target, blob)
        except OSError as error:
            raise StoreUnwritableError(self.root, error.strerror or str(error)) from error
        return digest

    def get(self, digest: str) -> bytes:
        """Read a blob and check it. Raises BlobMissingError or BlobCorruptError."""
        try:
            blob = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissingError(digest) from None
        found = digest_of(blob)
        if found != digest:
            raise BlobCorruptError(digest, found)
        return blob


def _write_atomically(target: Path, blob: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:  # also Ctrl-C: leave no half-written file behind
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
