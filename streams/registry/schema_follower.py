"""Follows ``_schemas`` and holds what is registered, for codecs, for the registry and for whoever writes there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka.errors import KafkaError

from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.partition_log import LogRecord
from streams.registry.schema_log import PARTITION, SchemaLog, fold
from streams.topics import SCHEMAS_TOPIC
from streams.watch import PartitionWatch

CATCH_UP_S: Final = 10.0
START_S: Final = 30.0


class SchemaFollower:
    """The schema log as of a moment ago. ``on_change`` runs in the loop, with the log, when it holds something new."""

    def __init__(self, connection: Connection, on_change: Callable[[SchemaLog], None] = lambda log: None) -> None:
        self.log = SchemaLog()
        self._connection = connection
        self._on_change = on_change
        self._watch = PartitionWatch(connection, SCHEMAS_TOPIC, self._fold)
        self._asker: Any = None
        self._asking = asyncio.Lock()

    async def start(self, timeout_s: float = START_S) -> None:
        """Start following; returns once everything registered so far is folded. Raises WatchTimeoutError."""
        await self._watch.start(timeout_s)
        self._on_change(self.log)

    async def stop(self) -> None:
        """Stop following."""
        await self._watch.stop()
        await self._drop_asker()

    async def catch_up(self, timeout_s: float = CATCH_UP_S) -> None:
        """Fold everything that is registered as of now. Raises RetriableError."""
        end = await self._end()
        await self._watch.wait_for(lambda: self._watch.position >= end, timeout_s, "reading the newest schemas")

    async def wait_for_offset(self, offset: int, timeout_s: float = CATCH_UP_S) -> None:
        """Read your writes: wait until the record at ``offset`` is folded. Raises WatchTimeoutError."""
        await self._watch.wait_for_offset(offset, timeout_s)

    async def _end(self) -> int:
        async with self._asking:
            try:
                if self._asker is None:
                    # A client of its own: on the follower's connection the question waits behind an idle fetch.
                    client = consumer(self._connection)
                    await start(client, "connecting to ask for the newest schemas", CATCH_UP_S)
                    self._asker = client
                asked = self._asker.end_offsets([PARTITION])
                return int((await bounded(asked, CATCH_UP_S, "asking for the newest schemas"))[PARTITION])
            except BaseException as error:  # also a cancelled question: its client is in an unknown state
                await self._drop_asker()
                if isinstance(error, KafkaError | OSError):
                    raise UnreachableError("asking for the newest schemas", str(error)) from error
                raise

    async def _drop_asker(self) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            await stop_quietly(asker)

    def _fold(self, batch: Sequence[LogRecord]) -> None:
        before = self.log
        self.log = fold(before, ((record.key, record.value) for record in batch))
        if self._watch.is_ready and self.log != before:
            self._on_change(self.log)
