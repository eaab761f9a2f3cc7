"""What a process tells the audit log, without ever waiting for it: a bounded queue and a producer of its own.

    audit = AuditWriter(connection, Actor(user="supervisor", source=context.name, environment="production"))
    ... together(audit.run(), work())
    with audit.operation("executors.scale", Facts(resources=("executors=3",))) as operation:
        operation.affected("executor-2")

Entering writes the record *before*, leaving the one *after*; an exception is its outcome and goes on. ``note`` takes a
record that was made elsewhere. Nothing here blocks or raises because of the broker: up to ``limit`` records wait for
it, further ones are dropped and counted, and the next record that passes says how many (``num_dropped``). A record
whose sending had no answer is sent again; the audit log takes it once, by its operation and phase.

Commands of people wait for their records instead: ``infra.audit_trail``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from aiokafka.errors import KafkaError

from schemas.audit import AuditRecord
from streams.audit_operation import NO_FACTS, Actor, Facts, Operation
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import InvariantError, RetriableError
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name

log = logging.getLogger(__name__)

INTAKE: Final = "audit.intake"
LIMIT: Final = 1_000
SEND_TIMEOUT_S: Final = 10.0
AGAIN_S: Final = 1.0
DRAIN_S: Final = 2.0


class Encoder(Protocol):
    """The part of the codec that is needed here."""

    def encode(self, topic_short: str, record: Any) -> bytes:
        """Value of a record."""


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class AuditWriter:
    """Takes records from the tasks of one event loop. ``num_dropped``: all that found no room or no schema."""

    def __init__(
        self,
        connection: Connection,
        actor: Actor,
        *,
        limit: int = LIMIT,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self.actor = actor
        self.num_dropped = 0
        self._connection = connection
        self._limit = limit
        self._clock_us = clock_us
        self._waiting: deque[AuditRecord] = deque()
        self._untold = 0
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()

    def note(self, record: AuditRecord) -> bool:
        """Queue a record; False where there is no room and it is dropped."""
        if len(self._waiting) >= self._limit:
            self._drop()
            return False
        if self._untold:
            record, self._untold = replace(record, num_dropped=self._untold), 0
        self._waiting.append(record)
        self._wake.set()
        return True

    @contextlib.contextmanager
    def operation(self, name: str, facts: Facts = NO_FACTS) -> Iterator[Operation]:
        """Around what is done; the operation that it gives takes what becomes known meanwhile."""
        made = Operation(self.actor, name, uuid.uuid4().hex, self._clock_us(), facts)
        self.note(made.before())
        try:
            yield made
        except BaseException as error:  # noted, never kept
            made.ends_by(error)
            raise
        finally:
            self.note(made.after(self._clock_us()))

    async def run(self) -> None:
        """Send until cancelled; a broker that is away is tried again."""
        while True:
            await self._wake.wait()
            try:
                await self._send_waiting()
            except (KafkaError, RetriableError, OSError) as error:
                log.warning("audit records wait, %d of them: %s", len(self._waiting), error or type(error).__name__)
                await asyncio.sleep(AGAIN_S)

    async def drain(self, seconds: float = DRAIN_S) -> None:
        """Wait until everything is sent, at most so long; for the end of a process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting:
                    self._sent.clear()
                    await self._sent.wait()

    async def _send_waiting(self) -> None:
        codec = Codec(await read_schema_ids(self._connection))
        client = producer(self._connection, enable_idempotence=True)
        await start(client, "connecting to write audit records")
        try:
            while True:
                while self._waiting:
                    await self._send(client, codec, self._waiting[0])
                    self._waiting.popleft()
                    self._sent.set()
                self._wake.clear()
                await self._wake.wait()
        finally:
            await stop_quietly(client)

    async def _send(self, client: Any, codec: Encoder, record: AuditRecord) -> None:
        try:
            value = codec.encode(INTAKE, record)
        except InvariantError as error:  # a broker that was provisioned by an older release
            log.error("an audit record is dropped: %s", error)
            self._untold += record.num_dropped
            self._drop()
            return
        key = record.operation_id.encode()
        sent = client.send_and_wait(full_name(INTAKE), value, key=key, partition=0)
        await bounded(sent, SEND_TIMEOUT_S, "sending an audit record")

    def _drop(self) -> None:
        self.num_dropped += 1
        self._untold += 1
