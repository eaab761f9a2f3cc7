"""The job that keeps the audit log, in the Orchestrator's process and only while the Orchestrator is active there.

What it records: ``audit.intake`` (commands of people, processes), the spool of the data directory, and every operation
that ``memory.events`` shows. It goes on where the log says that it stands (``streams.control.audit_store``), so each
record is there once, whatever was killed. It signs a head after ``HEAD_EVERY`` entries, a minute, and at its end: for
the log, and for memory as the Orchestrator itself wrote it, not as the topic reads. Serving and the Orchestrator's
decisions never wait for it; when the broker is away it waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Protocol

from aiokafka.errors import KafkaError

from infra.audit_key import audit_key, note_head, noted_head
from infra.audit_spool import remove, spooled
from infra.roles import RoleContext, together
from infra.settings import Settings
from schemas.environment import Signer
from schemas.memory import MemoryCommand
from streams.audit_chain import HEAD_EVERY, INTAKE, OWN, SIGNER, SPOOL, Draft, head_is_due, is_signed, sign_head
from streams.audit_facts import SIGNER_KEY, SOURCE, EventFold, environment_name, unreadable
from streams.audit_operation import FAILED, Actor, Operation
from streams.canonical import to_json
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.control.audit_store import AuditStore
from streams.errors import IsosError, PoisonRecordError
from streams.link_check import head_text
from streams.memory_view import MemoryHead
from streams.partition_log import KafkaLog, LogRecord
from streams.registry.schema_watch import SchemaWatch
from streams.signing import key_id, public_key_of
from streams.topics import full_name
from streams.watch import PartitionWatch

log = logging.getLogger(__name__)

TOPIC: Final = "audit.intake"
EVENTS: Final = "memory.events"
COMMANDS: Final = "memory.commands"
LOOK_S: Final = 1.0
AGAIN_S: Final = 2.0
READ_S: Final = 600.0
SEND_S: Final = 10.0
MAX_WAITING: Final = 5_000
RENEW_S: Final = 86_400.0
MAX_INTAKE_BYTES: Final = 262_144
"""A record that is larger is none of ours; the log has to be able to hold it."""
FIRST_EVENTS: Final = 10_000
"""An audit log that begins beside an old memory begins with so many of its last offsets."""


class Tenant(Protocol):
    """The loop of the Orchestrator (``streams.control.control_loop``)."""

    role: str

    @property
    def memory_head(self) -> MemoryHead:
        """The end of memory as the Orchestrator wrote it."""


async def keep_audit_log(context: RoleContext, loop: Tenant, schemas: SchemaWatch) -> None:
    """Keep the log until cancelled. Raises StartError when the key cannot be had."""
    keeper = AuditLog(context.settings, context.connection, loop, schemas)
    context.drains.append(keeper.sign_off)
    await keeper.run()


class AuditLog:
    """The job; ``sign_off`` signs what stands before the process ends."""

    def __init__(self, settings: Settings, connection: Connection, loop: Tenant, schemas: SchemaWatch) -> None:
        self._settings = settings
        self._connection = connection
        self._loop = loop
        self._schemas = schemas
        self._key = audit_key(settings)
        self._public_key = public_key_of(self._key)
        self._partitions = KafkaLog(connection, fence=settings.fence)
        self._waiting: deque[Draft] = deque()
        self._wake, self._room, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._signed_us = 0
        self._is_ending = self._is_recording = False

    async def run(self) -> None:
        """Keep the log whenever the Orchestrator is active; whatever fails is built anew."""
        while True:
            if self._loop.role == "active":
                try:
                    await self._keep()
                except (IsosError, KafkaError, OSError) as error:
                    log.warning("the audit log is opened anew: %s", error or type(error).__name__)
            await asyncio.sleep(AGAIN_S)

    async def sign_off(self) -> None:
        """Have what waits recorded and signed for, and return then."""
        self._is_ending = True
        self._wake.set()
        if self._loop.role == "active":
            await self._idle.wait()

    async def _keep(self) -> None:
        store = AuditStore(self._partitions, self._schemas.codec, partial(is_signed, public_keys=(self._public_key,)))
        watches: list[PartitionWatch] = []
        self._waiting.clear()
        try:
            point = await store.open()
            log.info("the audit log stands at %d", point.sequence)
            fold = EventFold(partial(self._schemas.codec.decode, EVENTS))
            watches.append(await self._watch_memory(fold, await self._first_event(point.memory_offset, point.sequence)))
            self._note_cut(store, fold)
            await self._register(fold)
            watches.append(await self._intake(fold, point.intake_offset))
            await together(watches[-1].start(READ_S), self._record(store, watches))
        finally:
            for watch in watches:
                await watch.stop()
            await store.stop()

    async def _record(self, store: AuditStore, watches: Sequence[PartitionWatch]) -> None:
        until = time.monotonic() + RENEW_S
        self._is_recording = True
        try:
            while self._loop.role == "active" and time.monotonic() < until:
                await self._record_what_waits(store)
                for watch in watches:
                    await watch.wait_for(lambda: True, LOOK_S, "watching")  # raises what ended it
                await _wait(self._wake, LOOK_S)
        finally:
            self._is_recording = False
            self._room.set()

    async def _record_what_waits(self, store: AuditStore) -> None:
        self._wake.clear()
        await self._sign(store)  # before anything else: a job that was killed may have left as much as goes unsigned
        files = await asyncio.to_thread(spooled, self._settings)
        await store.append([Draft(SPOOL, -1, each.record) for each in files], _now_us())
        await asyncio.to_thread(remove, files)
        await self._sign(store)
        while self._waiting:
            batch = [self._waiting[at] for at in range(min(HEAD_EVERY, len(self._waiting)))]
            await store.append(batch, _now_us())
            for _ in batch:
                self._waiting.popleft()
            self._room.set()
            await self._sign(store)
        await self._sign(store)
        if self._is_ending:
            self._idle.set()

    async def _sign(self, store: AuditStore) -> None:
        memory, now_us = self._loop.memory_head, _now_us()
        is_last = self._is_ending and not self._idle.is_set() and store.point.unsigned > 0 and not self._waiting
        if not is_last and not head_is_due(store.point, memory, self._signed_us, now_us):
            return
        await store.sign(sign_head(store.point, memory, self._key, now_us))
        self._signed_us = now_us
        try:
            await asyncio.to_thread(note_head, self._settings, store.point.head)
        except OSError as error:
            log.warning("the audit log's head cannot be noted: %s", error)

    # What comes in.

    async def _first_event(self, offset: int, sequence: int) -> int:
        _, end = await self._partitions.bounds(full_name(EVENTS), 0)
        if offset > end:
            log.error("memory.events ends at %d, and %d is recorded: it is another topic now", end, offset)
            return 0
        if sequence:
            return offset
        return max(0, end - FIRST_EVENTS)

    async def _watch_memory(self, fold: EventFold, wanted: int) -> PartitionWatch:
        def take(batch: Sequence[LogRecord]) -> None:
            for record in batch:
                if record.offset >= wanted:
                    self._waiting.extend(fold.take(record.offset, record.value, _now_us()))
                else:
                    fold.learn(record.value)
            self._wake.set()

        async def learn(batch: Sequence[LogRecord]) -> None:
            for record in batch:
                await self._schemas.prepare(EVENTS, record.value, surely=True)
            await self._have_room()

        watch = PartitionWatch(self._connection, full_name(EVENTS), take, prepare=learn)
        await watch.start(READ_S)
        return watch

    async def _intake(self, fold: EventFold, first: int) -> PartitionWatch:
        begin, end = await self._partitions.bounds(full_name(TOPIC), 0)
        if first > end:
            log.error("audit.intake ends at %d, and %d is recorded: it is another topic now", end, first)
            first = begin

        def take(batch: Sequence[LogRecord]) -> None:
            self._waiting.extend(self._of_intake(fold, record) for record in batch)
            self._wake.set()

        async def learn(batch: Sequence[LogRecord]) -> None:
            for record in batch:
                await self._schemas.prepare(TOPIC, record.value)
            await self._have_room()

        return PartitionWatch(self._connection, full_name(TOPIC), take, first=first, prepare=learn)

    def _of_intake(self, fold: EventFold, record: LogRecord) -> Draft:
        try:
            if len(record.value or b"") > MAX_INTAKE_BYTES:
                raise PoisonRecordError("garbage", f"it is larger than {MAX_INTAKE_BYTES} bytes")
            said = self._schemas.codec.decode(TOPIC, record.value)
        except PoisonRecordError as error:
            said = unreadable(environment_name(fold.view), record.offset, error.message, _now_us())
        return Draft(INTAKE, record.offset, said)

    async def _have_room(self) -> None:
        """Wait until what was read before is recorded, so that a flood waits on the broker and not here."""
        while self._is_recording and len(self._waiting) > MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    # What it says by itself.

    def _note_cut(self, store: AuditStore, fold: EventFold) -> None:
        """Record that the log does not reach the head that was noted here, before that note is written over."""
        noted, head = noted_head(self._settings), store.point.head
        if noted is None or noted.sequence < head.sequence or noted == head:
            return
        operation = Operation(
            Actor("unknown", SOURCE, environment_name(fold.view)), "audit.cut_off", f"cut-{head_text(noted)}", _now_us()
        )
        what = (
            f"the log ends at {head_text(head)}, and {head_text(noted)} was noted here: its end was cut off or changed"
        )
        operation.ends(FAILED, what)
        log.error("audit: %s", what)
        self._waiting.append(Draft(OWN, -1, operation.after(_now_us())))

    async def _register(self, fold: EventFold) -> None:
        """Have the public key stand in memory; where another one stands, say so and go on."""
        if self._public_key in fold.public_keys[-1:]:
            return
        signer = Signer(SIGNER, self._public_key, "process")
        command = MemoryCommand(
            command_id=f"signer-{key_id(self._public_key)}-{fold.head.sequence}",
            agent=SIGNER,
            kind="RegisterSigner",
            key=SIGNER_KEY,
            expected_version=-1,
            body=to_json(signer),
            reason="the key that signs the heads of the audit log",
            causes=(),
            sent_us=_now_us(),
        )
        if fold.public_keys:
            log.warning("memory has another key of the audit log; `isos reviews revoke %s` lets this one in", SIGNER)
        client: Any = producer(self._connection, enable_idempotence=True)
        await start(client, "connecting to register the audit log's key")
        try:
            value = self._schemas.codec.encode(COMMANDS, command)
            sent = client.send_and_wait(full_name(COMMANDS), value, key=command.key.encode(), partition=0)
            await bounded(sent, SEND_S, "registering the audit log's key")
        finally:
            await stop_quietly(client)


def _now_us() -> int:
    return time.time_ns() // 1000


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
