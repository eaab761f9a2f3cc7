"""Model blobs on disk: ``<root>/blobs/sha256/ab/abcdef...``, a ``ContentStore`` whose errors say what to do for models.

Blobs of models are never collected: a registered version may be served again at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streams.blobs import content_store
from streams.blobs.content_store import ContentStore, digest_of
from streams.errors import IsosError

__all__ = ["BlobCorruptError", "BlobMissingError", "ModelStore", "StoreUnwritableError", "digest_of"]


class BlobMissingError(content_store.BlobMissingError):
    """No model blob of this digest is stored."""

    def __str__(self) -> str:
        return f"no model blob {self.digest[:12]} is stored here; register the model again"


class BlobCorruptError(content_store.BlobCorruptError):
    """A stored model blob's bytes are not those of its name."""

    def __str__(self) -> str:
        return f"{content_store.BlobCorruptError.__str__(self)}; delete it and register again"


class StoreUnwritableError(IsosError):
    """The store's directory cannot be written: no right, or the disk is full."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"the model store {self.path} cannot be written: {self.problem}"


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Blobs below ``root`` (the data directory)."""

    root: Path

    @property
    def _content(self) -> ContentStore:
        return ContentStore(self.root / "blobs" / "sha256")

    def path(self, digest: str) -> Path:
        """Where the blob of a digest stands. Raises BlobMissingError for what is no digest at all."""
        try:
            return self._content.path(digest)
        except content_store.BlobMissingError:
            raise BlobMissingError(digest) from None

    def has(self, digest: str) -> bool:
        """Whether a blob of that digest stands here (its bytes are checked on reading)."""
        return self.path(digest).is_file()

    def put(self, blob: bytes) -> str:
        """Store a blob and return its digest; a damaged one of the same name is replaced. StoreUnwritableError."""
        try:
            return self._content.put(blob)
        except content_store.StoreUnwritableError as error:
            raise StoreUnwritableError(self.root, error.problem) from error

    def get(self, digest: str) -> bytes:
        """Read a blob and check it. Raises BlobMissingError, BlobCorruptError or StoreUnreadableError."""
        try:
            return self._content.get(digest)
        except content_store.BlobMissingError:
            raise BlobMissingError(digest) from None
        except content_store.BlobCorruptError as error:
            raise BlobCorruptError(digest, error.found) from None
