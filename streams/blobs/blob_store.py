"""Where large tensors wait while their request travels: the claim check's store, one interface.

A blob is the data of a request's inputs, concatenated in the order of its tensors. It is stored before the request that
names it is sent, fetched and hashed again by the executor, and collected when no retained record may name it
(``streams/blobs/blob_collection.py``). ``LocalBlobStore`` is a folder that all processes of one machine share.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Protocol

from schemas.request import BlobRef
from streams.blobs.content_store import (
    LEFTOVER_S,
    BlobCorruptError,
    BlobMissingError,
    ContentStore,
    StoredBlob,
    StoreUnreadableError,
    StoreUnwritableError,
)
from streams.errors import IsosError

__all__ = [
    "FOLDER",
    "MAX_BLOB_BYTES",
    "BlobCorruptError",
    "BlobMissingError",
    "BlobStore",
    "BlobTooLargeError",
    "LocalBlobStore",
    "StoreUnreadableError",
    "StoreUnwritableError",
    "StoredBlob",
]

MAX_BLOB_BYTES: Final = 12 << 20
FOLDER: Final = Path("blobs") / "tensors"
"""Where the local store stands below the data directory."""


class BlobTooLargeError(IsosError):
    """Bytes that no request may carry."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes

    def __str__(self) -> str:
        return f"a blob of {self.size_bytes} bytes is larger than {MAX_BLOB_BYTES}"


class BlobStore(Protocol):
    """A store of blobs by digest. All calls may raise a RetriableError when the store does not answer."""

    async def put(self, data: bytes) -> BlobRef:
        """Store bytes; when it returns they stand, whole and durable, and count as touched. BlobTooLargeError."""
        ...

    async def get(self, ref: BlobRef) -> bytes:
        """Fetch and check a blob. Raises BlobMissingError, and BlobCorruptError for another digest or size."""
        ...

    async def touch(self, digest: str) -> bool:
        """Say that a retained record names the blob; False when it is not stored."""
        ...

    async def show(self, digest: str) -> StoredBlob | None:
        """What is stored under a digest, its bytes unread; None when nothing is."""
        ...

    async def blobs(self) -> list[StoredBlob]:
        """Everything stored, in the order of digests."""
        ...

    async def remove(self, digest: str, untouched_since_us: int) -> bool:
        """Remove a blob unless it was touched at or after that time (checked and removed in one step)."""
        ...

    async def remove_leftovers(self, older_than_s: float = LEFTOVER_S) -> int:
        """Remove what killed writers began and never named; the number removed."""
        ...


class LocalBlobStore:
    """A ``BlobStore`` in a folder; hashing and file access happen in threads."""

    __slots__ = ("_content",)

    def __init__(self, directory: Path) -> None:
        self._content = ContentStore(directory)

    @classmethod
    def below(cls, data_dir: Path) -> LocalBlobStore:
        """The store of a data directory."""
        return cls(data_dir / FOLDER)

    @property
    def directory(self) -> Path:
        """The store's folder."""
        return self._content.root

    def path(self, digest: str) -> Path:
        """Where a blob stands."""
        return self._content.path(digest)

    async def put(self, data: bytes) -> BlobRef:
        """See ``BlobStore``. Raises StoreUnwritableError, also for a full disk."""
        if len(data) > MAX_BLOB_BYTES:
            raise BlobTooLargeError(len(data))
        return BlobRef(await asyncio.to_thread(self._content.put, data), len(data))

    async def get(self, ref: BlobRef) -> bytes:
        """See ``BlobStore``. Raises StoreUnreadableError."""
        found = await self.show(ref.digest)
        if found is not None and found.size_bytes != ref.size_bytes:  # nothing of another size is read
            raise BlobCorruptError(ref.digest, f"{found.size_bytes} bytes")
        return await asyncio.to_thread(self._content.get, ref.digest)

    async def touch(self, digest: str) -> bool:
        """See ``BlobStore``. Raises StoreUnreadableError."""
        return await asyncio.to_thread(self._content.touch, digest)

    async def show(self, digest: str) -> StoredBlob | None:
        """See ``BlobStore``. Raises StoreUnreadableError."""
        return await asyncio.to_thread(self._content.show, digest)

    async def blobs(self) -> list[StoredBlob]:
        """See ``BlobStore``. Raises StoreUnreadableError."""
        return await asyncio.to_thread(lambda: list(self._content.blobs()))

    async def remove(self, digest: str, untouched_since_us: int) -> bool:
        """See ``BlobStore``. Raises StoreUnwritableError."""
        return await asyncio.to_thread(self._content.remove, digest, untouched_since_us)

    async def remove_leftovers(self, older_than_s: float = LEFTOVER_S) -> int:
        """See ``BlobStore``. Raises StoreUnwritableError."""
        return await asyncio.to_thread(self._content.remove_leftovers, older_than_s)
