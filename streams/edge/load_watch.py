"""The edge's ear for what executors say of their load: the newest records of ``control.executor-load``.

Nobody waits for it. Without a broker, or without the topic, no report comes, and the forecast falls silent by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Final

from streams.connection import Connection
from streams.edge.forecast import Forecast
from streams.edge.steering import Steering
from streams.errors import PoisonRecordError
from streams.partition_log import LogRecord
from streams.registry.schema_watch import SchemaWatch
from streams.topics import full_name
from streams.watch import PartitionWatch, WatchTimeoutError

log = logging.getLogger(__name__)

TOPIC: Final = "control.executor-load"


class LoadWatch:
    """Feeds ``forecast`` and ``steering`` with every report from now on."""

    def __init__(
        self, connection: Connection, schemas: SchemaWatch, forecast: Forecast, steering: Steering | None = None
    ) -> None:
        self._schemas = schemas
        self._forecast = forecast
        self._steering = Steering() if steering is None else steering
        self._watch = PartitionWatch(connection, full_name(TOPIC), self._take, from_end=True, prepare=self._learn)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        try:
            with contextlib.suppress(WatchTimeoutError):  # it goes on trying
                await self._watch.start()
            await asyncio.Event().wait()
        finally:
            await self._watch.stop()

    async def _learn(self, batch: Sequence[LogRecord]) -> None:
        await self._schemas.prepare(TOPIC, batch[-1].value)

    def _take(self, batch: Sequence[LogRecord]) -> None:
        now_us = time.time_ns() // 1000
        for record in batch:
            try:
                load = self._schemas.codec.decode(TOPIC, record.value)
            except PoisonRecordError as error:
                log.warning("%s@%s is no report of an executor: %s", TOPIC, record.offset, error)
            else:
                self._forecast.take(load, now_us)
                self._steering.take(load, now_us)
