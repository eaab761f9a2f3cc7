"""What a Router's process tells of rows that the cache answers: nothing, and nothing imported, until some may be."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from streams.memory_view import MemoryView, cached_models
from streams.references import REFERENCES

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from executors.cached_rows import CachedRows
    from schemas.frame import InferenceFrame
    from streams.cache.lookup import LookedUp
    from streams.codec import Codec

LOOK_S: Final = 1.0
QUIET_S: Final = 60.0
log = logging.getLogger(__name__)


class CachedTraffic:
    """Counts cached answers of versions that have a reference; ``name`` tells of them each ``every_s``."""

    def __init__(self, name: str, memory: Callable[[], MemoryView], every_s: float) -> None:
        self._every_s = every_s
        self._name = name
        self._memory = memory
        self._rows: CachedRows | None = None
        self._quiet_until_s = 0.0

    def note(self, frame: InferenceFrame, found: LookedUp) -> None:
        """Count what was looked up for a frame; best effort, so a defect of the counting is logged and ends nothing."""
        if self._rows is None:
            return
        try:
            self._rows.note(frame, found, time.time_ns() // 1000)
        except Exception:
            if time.monotonic() >= self._quiet_until_s:  # the next frames may be like it
                self._quiet_until_s = time.monotonic() + QUIET_S
                log.exception("the cached rows of frame %d were not counted for drift", frame.frame_id)

    async def run(self, producer: AIOKafkaProducer, codec: Codec) -> None:
        """Wait for a version with a reference whose answers are cached, then tell of its rows until cancelled."""
        while not _may_be_counted(self._memory()):
            await asyncio.sleep(LOOK_S)
        self._rows = rows = await asyncio.to_thread(self._open)
        from executors.statistics import send_statistics

        await send_statistics(producer, codec, rows.rows, self._memory, self._every_s)

    def _open(self) -> CachedRows:
        """Beside the loop, for the compiled counting takes a while to be loaded."""
        from executors.cached_rows import CachedRows
        from executors.statistics import RowStatistics

        return CachedRows(RowStatistics(self._name, time.time_ns() // 1000))


def _may_be_counted(memory: MemoryView) -> bool:
    cached = cached_models(memory)
    return bool(cached) and any(
        key.startswith(REFERENCES) and key.removeprefix(REFERENCES).partition("/")[0] in cached
        for key in memory.entries
    )
