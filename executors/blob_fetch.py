"""Fetches the inputs of rows whose tensors wait in the blob store, beside the executor's loop.

A claim is one segment with a blob: one row. Claims are fetched in the order they came, a few at a time, while their
bytes fit a budget; a row gives its bytes back when it is finished. Rows with inline tensors never wait for any of this.
What is fetched was hashed again by the store.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from schemas.frame import TensorBlock
from schemas.request import BlobRef
from streams.blobs.blob_store import BlobCorruptError, BlobMissingError, BlobStore
from streams.columns import item_bytes
from streams.errors import RetriableError
from streams.tensors import (
    BYTES,
    FLOATING,
    WIRE_DTYPES,
    MalformedBytesError,
    check_texts,
    count_of,
    is_finite,
    prefix_end,
)

MAX_FETCHED_BYTES: Final = 128 << 20
MAX_PARALLEL: Final = 4
INLINE_BYTES: Final = 1 << 20
"""Blobs up to this size are looked through without a thread: it takes less than the change."""
RETRY_S: Final = (0.05, 1.0)
"""First and longest pause before an unreadable store is asked again."""


@dataclass(eq=False, slots=True)
class Claim:
    """A row that waits for its blob.

    ``work`` and ``segment`` are the caller's own, ``inputs`` the segment's blocks in the order of the blob, ``due_us``
    the row's deadline.
    """

    work: Any
    segment: int
    ref: BlobRef
    inputs: tuple[TensorBlock, ...]
    items: int
    due_us: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """The inputs of a claim with their data, and the names of those that hold NaN or infinity."""

    inputs: tuple[TensorBlock, ...]
    not_finite: tuple[str, ...]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class NotFetched:
    """Why a claim's row ends: code of the closed list and sentence."""

    code: str
    message: str


class BlobFetcher:
    """Claims in, fetched inputs or failures out, in any order."""

    def __init__(self, store: BlobStore, max_bytes: int = MAX_FETCHED_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._waiting: deque[Claim] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived: list[tuple[Claim, Fetched | NotFetched]] = []
        self._failure: BaseException | None = None
        self.held_bytes = 0
        self.num_items = 0

    @property
    def is_busy(self) -> bool:
        """Whether something may arrive."""
        return bool(self._tasks or self._arrived)

    @property
    def has_arrived(self) -> bool:
        """Whether there is something to take, or a failure to be told."""
        return bool(self._arrived) or self._failure is not None

    def claim(self, claim: Claim) -> None:
        """Fetch when its turn comes. ``num_items`` counts what was claimed and has not been taken."""
        self._waiting.append(claim)
        self.num_items += claim.items
        self._start()

    def take(self) -> list[tuple[Claim, Fetched | NotFetched]]:
        """What arrived since the last call. Raises what a fetch raised that nobody foresaw."""
        if self._failure is not None:
            raise self._failure
        arrived, self._arrived = self._arrived, []
        self.num_items -= sum(claim.items for claim, _ in arrived)
        return arrived

    def release(self, num_bytes: int) -> None:
        """Give bytes back: the row they were fetched for is finished."""
        self.held_bytes -= num_bytes
        self._start()

    def stop(self) -> None:
        """Forget every claim."""
        for task in self._tasks:
            task.cancel()
        self._waiting.clear()
        self._arrived = []
        self._tasks = set()
        self.held_bytes = self.num_items = 0

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < MAX_PARALLEL:
            size = self._waiting[0].ref.size_bytes
            if self.held_bytes and self.held_bytes + size > self._max_bytes:
                return
            self.held_bytes += size
            task = asyncio.ensure_future(self._fetch(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task not in self._tasks:  # stopped meanwhile
            return
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
        self._start()

    async def _fetch(self, claim: Claim) -> None:
        outcome = await fetch(self._store, claim)
        if asyncio.current_task() not in self._tasks:
            return
        if isinstance(outcome, NotFetched):
            self.held_bytes -= claim.ref.size_bytes
        self._arrived.append((claim, outcome))


async def fetch(store: BlobStore, claim: Claim) -> Fetched | NotFetched:
    """Fetch one claim; a store that does not answer is asked again until the row's deadline."""
    pause_s = RETRY_S[0]
    while True:
        try:
            data = await store.get(claim.ref)
            if len(data) <= INLINE_BYTES:
                return _filled(claim, data)
            return await asyncio.to_thread(_filled, claim, data)
        except BlobMissingError as error:
            return NotFetched("blob_missing", str(error))
        except BlobCorruptError as error:
            return NotFetched("blob_corrupt", str(error))
        except MalformedBytesError as error:
            return NotFetched("malformed_bytes", str(error))
        except RetriableError as error:
            if time.time_ns() // 1000 + pause_s * 1e6 >= claim.due_us:
                return NotFetched("blob_missing", f"{error}, and the deadline came before it could be")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])


def _filled(claim: Claim, data: bytes) -> Fetched:
    inputs = cut_inputs(claim.ref, claim.inputs, claim.items, data)
    return Fetched(inputs, tuple(block.name for block in inputs if not _is_finite(block)), claim.ref.size_bytes)


def cut_inputs(ref: BlobRef, inputs: Sequence[TensorBlock], items: int, data: bytes) -> tuple[TensorBlock, ...]:
    """The blocks with their parts of a blob.

    Raises BlobCorruptError when the blob has not the size they take, MalformedBytesError when a BYTES tensor in it is
    not its shape's number of texts.
    """
    sizes: list[int] = []
    for block in inputs:
        at, count = sum(sizes), items * count_of(block.item_shape)
        is_text = block.datatype == BYTES
        sizes.append((prefix_end(data, at, count) - at) if is_text else items * item_bytes(block))
        if is_text:
            check_texts(data[at : at + sizes[-1]], count)
    if sum(sizes) != len(data):
        raise BlobCorruptError(ref.digest, f"{len(data)} bytes where the inputs take {sum(sizes)}")
    if len(sizes) == 1:
        return (replace(inputs[0], data=data),)
    filled, at = [], 0
    for block, size in zip(inputs, sizes, strict=True):
        filled.append(replace(block, data=data[at : at + size]))
        at += size
    return tuple(filled)


def _is_finite(block: TensorBlock) -> bool:
    if block.datatype not in FLOATING:
        return True
    return bool(is_finite(block.datatype, np.frombuffer(block.data, WIRE_DTYPES[block.datatype])).all())
