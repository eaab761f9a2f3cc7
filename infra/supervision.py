"""Composition of the supervisors in the control process, one per pool: their log, their memory and their launchers.

One process at a time per data directory has them, by a lock. Whatever of it breaks is built anew, from the ends of both
topics: that is also how an action goes on whose supervisor died.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.errors import KafkaError

from infra.launcher import LocalLauncher
from infra.log_reader import LogReader
from infra.pools import pools
from infra.roles import together
from infra.settings import Settings
from infra.supervisor import RefusedError, Supervisor
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand
from schemas.scaling import Replicas, ScaleConfirmation, ScalingPolicy
from streams.audit_operation import Audited, unaudited
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, UnreachableError, bounded, producer, start, stop_quietly
from streams.errors import PoisonRecordError, RetriableError
from streams.lane_class import POOL
from streams.memory_view import rejection, replicas, scaling_policy
from streams.partition_log import KafkaLog, LogRecord
from streams.registry.schema_watch import SchemaWatch
from streams.topics import full_name
from streams.watch import MemoryWatch, PartitionWatch

log = logging.getLogger(__name__)

ACTIONS: Final = "control.scale-actions"
CONFIRMATIONS: Final = "control.scale-confirmations"
NEWEST: Final = 64
SEND_S: Final = 10.0
ANSWER_S: Final = 15.0
RETRY_S: Final = 1.0


async def supervise(settings: Settings, connection: Connection, audited: Audited = unaudited) -> None:
    """Supervise the executors of this data directory until cancelled; a broker that is away is waited for."""
    while True:
        try:
            with LocalLauncher(settings).claim() as mine:
                if mine:
                    await _supervise(settings, connection, audited)
        except (RetriableError, KafkaError) as error:
            log.warning("the supervisors of the executors begin anew: %s", error)
        await asyncio.sleep(RETRY_S)


async def _supervise(settings: Settings, connection: Connection, audited: Audited) -> None:
    schemas = await SchemaWatch.open(connection)
    memory = MemoryWatch(connection, schemas.codec, schemas=schemas)
    sender = Sender(producer(connection, enable_idempotence=True), schemas.codec)
    watch: PartitionWatch | None = None
    try:
        await start(sender.client, "starting the supervisor's producer")
        await memory.start()
        _, end = await KafkaLog(connection).bounds(full_name(ACTIONS), 0)
        done = await LogReader(connection, schemas.codec).read(CONFIRMATIONS, NEWEST)
        confirmed = [each.record.action_id for each in done]
        supervisors = [
            Supervisor(
                LocalLauncher(settings, pool.name),
                NotedReplicas(memory, sender, pool.name),
                sender.confirm,
                pool=pool,
                confirmed=confirmed,
                audited=audited,
            )
            for pool in pools(settings)
        ]

        async def learn(batch: Sequence[LogRecord]) -> None:
            await schemas.prepare(ACTIONS, batch[-1].value)

        def take(batch: Sequence[LogRecord]) -> None:
            for record in batch:
                try:
                    action = schemas.codec.decode(ACTIONS, record.value)
                    for supervisor in supervisors:
                        supervisor.ask(action, record.offset)
                except PoisonRecordError as error:
                    log.warning("%s@%d is no scale action: %s", ACTIONS, record.offset, error)

        watch = PartitionWatch(connection, full_name(ACTIONS), take, first=max(0, end - NEWEST), prepare=learn)
        await watch.start()
        await together(*(supervisor.run() for supervisor in supervisors))
    finally:
        if watch is not None:
            await watch.stop()
        await memory.stop()
        await schemas.stop()
        await stop_quietly(sender.client)


class Sender:
    """Sends the supervisor's records; what the client raises becomes RetriableError."""

    def __init__(self, client: Any, codec: Codec) -> None:
        self.client = client
        self._codec = codec

    async def send(self, topic: str, key: str, record: Any) -> None:
        """Send one record and wait until it is written."""
        sending = self.client.send_and_wait(full_name(topic), self._codec.encode(topic, record), key=key.encode())
        try:
            await bounded(sending, SEND_S, f"sending to {topic}")
        except KafkaError as error:
            raise UnreachableError(f"sending to {topic}", type(error).__name__) from error

    async def confirm(self, confirmation: ScaleConfirmation) -> None:
        """Publish what became of an action."""
        await self.send(CONFIRMATIONS, confirmation.pool, confirmation)


class NotedReplicas:
    """``replicas/<pool>`` in memory, changed by commands to the Orchestrator."""

    def __init__(self, memory: MemoryWatch, sender: Sender, pool: str = POOL) -> None:
        self._memory = memory
        self._sender = sender
        self._pool = pool

    def noted(self) -> int | None:
        """How many replicas Routers count on; None where nobody said."""
        found = replicas(self._memory.view, self._pool)
        return None if found is None else found.replicas

    def policy(self) -> ScalingPolicy | None:
        """The policy by which the pool is scaled, or None."""
        return scaling_policy(self._memory.view, self._pool)

    async def note(self, noted: Replicas, reason: str, causes: tuple[RecordCoordinate, ...]) -> None:
        """Propose it and wait until it stands in memory. Raises RefusedError and RetriableError."""
        now_us = time.time_ns() // 1000
        key, command_id = f"replicas/{noted.pool}", f"replicas/{noted.pool}/{now_us}"
        command = MemoryCommand(
            command_id, "supervisor", "NoteReplicas", key, -1, to_json(noted), reason, causes, now_us
        )
        await self._sender.send("memory.commands", key, command)
        view = await self._memory.wait_for(
            lambda view: replicas(view, self._pool) == noted or rejection(view, command_id) is not None,
            ANSWER_S,
            f"The Orchestrator's answer about {key}",
        )
        refused = rejection(view, command_id)
        if refused is not None:
            raise RefusedError(refused.message)
