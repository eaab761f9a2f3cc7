"""Tell the Router's partitions when memory is silent: its writer's heartbeats beside what this process has read of it.

One consumer without a group follows ``control.heartbeats``; the rule is ``agents.freshness``. The log of the process
hears of half the bound, of the bound, and of the end of it; people hear of it from the Monitor (``agents.silence``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from agents.freshness import Freshness, FreshnessParams, Level, hear, look
from streams.codec import Codec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.frame_effects import MemorySilent
from streams.interpreter import MemorySource
from streams.partition_log import LogRecord
from streams.registry.schema_watch import SchemaWatch
from streams.takeover import HeldPartition
from streams.topics import full_name
from streams.watch import PartitionWatch, WatchTimeoutError

log = logging.getLogger(__name__)

TOPIC: Final = "control.heartbeats"
WRITER: Final = b"orchestrator-"
LOOK_S: Final = 1.0
START_S: Final = 30.0
FOREVER_S: Final = 1e9


class MemoryAge:
    """``held``: the partitions that this process holds, as they are at each call. ``run`` goes on until cancelled."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        schemas: SchemaWatch | None,
        memory: MemorySource,
        held: Callable[[], Iterable[HeldPartition]],
        params: FreshnessParams,
        *,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._codec = codec
        self._schemas = schemas
        self._memory = memory
        self._held = held
        self._params = params
        self._clock_us = clock_us
        self._told: dict[tuple[str, int], tuple[HeldPartition, int]] = {}
        self._watch = PartitionWatch(
            connection, full_name(TOPIC), self.take, from_end=True, prepare=self._learn, pause_s=LOOK_S
        )
        self.level: Level = "fresh"
        self.state = Freshness(clock_us(), clock_us())

    async def run(self) -> None:
        """Judge once a second; a broker that is away is nobody's sign of life."""
        listening = asyncio.create_task(self._listen())
        try:
            while not listening.done():
                self.look()
                await asyncio.wait((listening,), timeout=LOOK_S)
            await listening  # raises what ended it
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await self._watch.stop()

    async def _listen(self) -> None:
        try:
            await self._watch.start(START_S)
        except WatchTimeoutError as error:
            log.warning("%s; what memory says is trusted for %d s", error, self._params.bound_us // 1_000_000)
        await self._watch.wait_for(lambda: False, FOREVER_S, "the end of the heartbeats")

    async def _learn(self, batch: Sequence[LogRecord]) -> None:
        if self._schemas is not None:
            for record in batch:
                if _is_writers(record):
                    await self._schemas.prepare(TOPIC, record.value)

    def take(self, batch: Sequence[LogRecord]) -> None:
        """Hear what processes say of themselves."""
        for record in batch:
            if not _is_writers(record):
                continue
            try:
                beat = self._codec.decode(TOPIC, record.value)
            except PoisonRecordError:
                continue  # whoever wrote it, it is no sign of life
            self.state = hear(self.state, beat.memory_sequence, self._clock_us())

    def look(self) -> None:
        """Judge, and tell whom it concerns."""
        now_us, before = self._clock_us(), self.level
        self.state, self.level = look(self.state, self._memory.view.sequence, now_us, self._params)
        if self.level != before:
            _say(self.level, self.state.silent_us(now_us) // 1_000_000, self._params)
        runs = {(held.topic, held.partition): (held, held.num_runs) for held in self._held() if held.ready.is_set()}
        is_silent = self.level == "silent"
        for place, (held, num_runs) in runs.items():
            knows = self._told.get(place) == (held, num_runs)
            if is_silent != knows:  # who was told, was told that it is silent
                held.tell(MemorySilent(on=is_silent))
        self._told = runs if is_silent else {}


def _is_writers(record: LogRecord) -> bool:
    return (record.key or b"").startswith(WRITER)


def _say(level: Level, seconds: int, params: FreshnessParams) -> None:
    bound_s = params.bound_us // 1_000_000
    if level == "ageing":
        log.warning(
            "nothing was heard of memory for %d s: rows go on by the last plans, and after %d s they are refused",
            seconds, bound_s,
        )  # fmt: skip
    elif level == "silent":
        log.error("nothing was heard of memory for %d s: every row is refused until something is", seconds)
    else:
        log.info("memory is heard again")
