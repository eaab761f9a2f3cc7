"""Reads the lanes of an executor; what ends in a thread meanwhile need not wait for frames.

A read that is interrupted is not lost: it goes on beside the loop, and the next call has what it brings.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from executors.lanes import Lanes

FETCH_RECORDS: Final = 200

Fetched = tuple[int, dict[Any, list[Any]]]
"""The generation that records were read in, and the records by lane."""


class LaneReader:
    """``wake``, when it is set, ends the waiting of whoever asked for that; it is cleared by the caller."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._reading: asyncio.Task[Fetched] | None = None
        self.wake = asyncio.Event()

    async def read(self, wait_ms: int, *, wakes: bool) -> Fetched:
        """Records that come within ``wait_ms``, or with ``wakes`` until ``wake`` is set; there may be none."""
        if self._reading is None and not wakes:
            return await self._fetch(wait_ms)
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._fetch(wait_ms))
        if wait_ms and not self._reading.done():
            await self._woken(self._reading, wait_ms)
        if not self._reading.done():
            return self._lanes.generation, {}
        reading, self._reading = self._reading, None
        return reading.result()

    async def pause(self, wait_ms: int, *, wakes: bool) -> None:
        """Read nothing for ``wait_ms``, or with ``wakes`` until ``wake`` is set."""
        if wakes:
            await self._woken(None, wait_ms)
        else:
            await asyncio.sleep(wait_ms / 1000)

    def stop(self) -> None:
        """Give up a read that goes on."""
        if self._reading is not None:
            self._reading.cancel()

    async def _fetch(self, wait_ms: int) -> Fetched:
        fetched = await self._lanes.read(timeout_ms=wait_ms, max_records=FETCH_RECORDS)
        return self._lanes.generation, fetched

    async def _woken(self, reading: asyncio.Task[Any] | None, wait_ms: int) -> None:
        waking = asyncio.ensure_future(self.wake.wait())
        either: set[asyncio.Future[Any]] = {waking} if reading is None else {waking, reading}
        try:
            await asyncio.wait(either, timeout=wait_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
