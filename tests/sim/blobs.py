"""A blob store in memory: shared by all processes, one hop away, sometimes unreadable for a moment."""

from __future__ import annotations

import asyncio
import hashlib

from schemas.request import BlobRef
from streams.blobs.blob_store import BlobMissingError
from streams.errors import RetriableError
from tests.sim.world import World


class BlobsUnreadableError(RetriableError):
    """The store cannot be reached now."""


class SimBlobs:
    """As ``streams.blobs.blob_store.LocalBlobStore``."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def _hop(self) -> None:
        await asyncio.sleep(0)
        if self.world.rng.random() < self.world.profile.refusal:
            self.world.count("blob calls refused")
            raise BlobsUnreadableError("simulated: the store is away")

    async def put(self, data: bytes) -> BlobRef:
        """Store; twice is once."""
        await self._hop()
        digest = hashlib.sha256(data).hexdigest()
        self.world.blobs[digest] = data
        self.world.count("blobs stored")
        return BlobRef(digest, len(data))

    async def get(self, ref: BlobRef) -> bytes:
        """The content. Raises BlobMissingError."""
        await self._hop()
        if ref.digest not in self.world.blobs:
            raise BlobMissingError(ref.digest)
        return self.world.blobs[ref.digest]

    async def touch(self, digest: str) -> bool:
        """Whether it is there."""
        await self._hop()
        return digest in self.world.blobs
