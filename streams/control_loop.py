"""The journal-first interpreter: runs a journaled agent on Faust, on one instance at a time.

One Faust app per agent (``isos-<agent>``). The instance that is assigned the agent's first topic takes over: claim the
journal -> open memory (the Orchestrator only) -> fold the journal -> send the last effects once more -> consume. One
round = a batch of inputs -> decide -> journal entries through the fenced writer -> effects -> acknowledgement.

Nothing of this runs inside Faust's assignment callback, which only starts a task; events wait in the inbox meanwhile.
Events stay in the inbox until they are acknowledged. After a refused or unknown write everything is given up, claimed
and folded anew, and the inbox is gone through again; the cursors drop what was journaled.

Consumed topics have one partition each and are range-assigned, so one instance holds all of them. Watched topics are
read from the journal's cursor, outside any group, and are inputs like the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from aiokafka.errors import KafkaError

from schemas.journal import JournalEffect, JournalEntry
from schemas.memory import MemoryEvent
from streams.agent import AgentSpec
from streams.connection import Connection, UnreachableError, bounded, producer, start, stop_quietly
from streams.errors import FencedError, InvariantError, RetriableError
from streams.faust_app import create_app
from streams.journal import (
    EFFECT_HEADER,
    MEMORY_EVENTS,
    SNAPSHOT_EVERY,
    TICK_INPUT,
    Input,
    JournaledAgent,
    RecordCodec,
    effect_id,
    restore,
)
from streams.partition_log import LogRecord, LogWriter, Outgoing, PartitionLog
from streams.topics import JOURNALED_AGENTS, PREFIX, SUFFIX, full_name
from streams.watch import PartitionWatch

log = logging.getLogger(__name__)

JOURNAL: Final = "control.journal"
BATCH: Final = 128
INBOX: Final = 4_096
TAIL: Final = SNAPSHOT_EVERY + 4 * BATCH
SEND_TIMEOUT_S: Final = 30.0
RENEW_CLAIM_S: Final = 86_400.0
HEALTHY_S: Final = 30.0
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class MemoryStore(Protocol):
    """The writer of memory, as ``streams.event_store.EventStore``."""

    @property
    def sequence(self) -> int:
        """Sequence of the last event."""

    async def open(self) -> Any:
        """Claim and fold."""

    async def append(self, event: MemoryEvent) -> int:
        """Append unless it is there already."""

    async def stop(self) -> None:
        """Release."""


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Where an agent's journal is: topic on the broker and partition."""

    topic: str
    partition: int

    @classmethod
    def of(cls, agent: str) -> JournalPlace:
        """The place of one of ours."""
        return cls(full_name(JOURNAL), JOURNALED_AGENTS.index(agent))


@dataclass(slots=True)
class _Waiting:
    """An input with the Faust event to acknowledge (None for a watched record)."""

    given: Input
    event: Any = None


@dataclass(slots=True)
class _Tenure:
    """One generation in which this instance holds the agent: what waits, and who works on it."""

    generation: int
    inbox: deque[_Waiting] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Holdings:
    """What a take-over acquired; released together."""

    writer: LogWriter
    sender: Any
    agent: JournaledAgent
    claimed_s: float
    watches: list[PartitionWatch] = field(default_factory=list)
    watched: deque[_Waiting] = field(default_factory=deque)


class ControlLoop:
    """Runs one journaled agent. ``role`` is standby, taking-over or active; ``on_defect`` hears of bugs of ours."""

    def __init__(
        self,
        spec: AgentSpec,
        connection: Connection,
        codec: RecordCodec,
        partitions: PartitionLog,
        *,
        data_dir: str,
        on_defect: Callable[[BaseException], None],
        session_timeout_s: float = 6.0,
        memory: MemoryStore | None = None,
        place: JournalPlace | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        if not spec.journaled or not spec.consumes:
            raise InvariantError(f"{spec.name}: the control loop runs journaled agents that consume something")
        self.spec = spec
        self.role = "standby"
        self.take_overs = 0
        self.refused_writes = 0
        self.sequence = 0
        self._connection = connection
        self._codec = codec
        self._partitions = partitions
        self._memory = memory
        self._place = place or JournalPlace.of(spec.name)
        self._clock_us = clock_us
        self._on_defect = on_defect
        self._generation = 0
        self._session_timeout_s = session_timeout_s
        self._tenure: _Tenure | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._app = create_app(spec.name, connection, session_timeout_s=session_timeout_s, data_dir=data_dir)
        topic = self._app.topic(*(full_name(name) for name in spec.consumes), value_serializer="raw")
        self._app.agent(topic, name=f"isos.{spec.name}", concurrency=1)(self._consume)
        self._app.on_partitions_assigned.connect(cast("Any", self._assigned))
        self._app.on_partitions_revoked.connect(cast("Any", self._revoked))

    async def start(self) -> None:
        """Join the group; the rest happens by itself."""
        await self._app.start()

    async def wait_settled(self, timeout_s: float) -> None:
        """Wait until this instance has been active or standby for the first time. Raises TimedOutError."""
        await bounded(self._settled.wait(), timeout_s, f"taking {self.spec.name} over")

    @property
    def memory_sequence(self) -> int:
        """Sequence of memory as this agent wrote it; 0 for an agent that does not write it, or a standby."""
        return 0 if self._memory is None else self._memory.sequence

    async def stop(self) -> None:
        """Give the agent up and leave the group."""
        self._end_tenure()
        await self._ended()
        await self._app.stop()

    # Faust's side: events and assignments.

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._hold(event)

    async def _hold(self, event: Any) -> None:
        tenure = self._tenure
        while tenure is not None and len(tenure.inbox) >= INBOX and tenure is self._tenure:
            tenure.room.clear()
            await tenure.room.wait()
        if tenure is not None and tenure is self._tenure:
            tenure.inbox.append(_Waiting(_input_of_event(event.message), event))
            tenure.wake.set()

    async def _assigned(self, _app: Any, *given: Any, **_: Any) -> None:
        self._end_tenure()
        anchor = full_name(self.spec.consumes[0])
        if not any(place.topic == anchor for place in given[0]):
            self._settled.set()
            return
        self._generation += 1
        tenure = _Tenure(self._generation)
        self._tenure = tenure
        tenure.task = asyncio.create_task(self._hold_office(tenure), name=f"{self.spec.name} tenure")

    async def _revoked(self, _app: Any, *_given: Any, **_: Any) -> None:
        self._end_tenure()

    def _end_tenure(self) -> None:
        """Ask the tenure's task to end; not waited for: heartbeats stand still while an assignment callback runs."""
        tenure, self._tenure = self._tenure, None
        self.role = "standby"
        if tenure is None or tenure.task is None:
            return
        tenure.room.set()
        tenure.task.cancel()
        self._ending.add(tenure.task)
        tenure.task.add_done_callback(self._ending.discard)

    # The agent's side: take over, then rounds.

    async def _hold_office(self, tenure: _Tenure) -> None:
        failures = 0
        await self._ended()
        while tenure is self._tenure:
            began = time.monotonic()
            try:
                await self._serve(tenure)
            except RetriableError as error:
                failures = 0 if time.monotonic() - began > HEALTHY_S else min(failures + 1, len(BACKOFF_S) - 1)
                log.warning("%s gives up its claim and takes over anew: %s", self.spec.name, error)
                self._set_role(tenure, "taking-over")
                # Whoever was fenced most likely lost its assignment too and hears of it within a heartbeat or two.
                await asyncio.sleep(self._session_timeout_s if isinstance(error, FencedError) else BACKOFF_S[failures])
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                log.exception("%s met a defect of ours and stops", self.spec.name)
                self._on_defect(error)
                return

    async def _ended(self) -> None:
        """Wait until earlier tenures have released what they held."""
        if self._ending:
            await asyncio.wait(list(self._ending))

    def _set_role(self, tenure: _Tenure, role: str) -> None:
        if tenure is self._tenure:
            self.role = role

    async def _serve(self, tenure: _Tenure) -> None:
        self._set_role(tenure, "taking-over")
        writer = await self._partitions.claim(self._place.topic, self._place.partition)
        sender = producer(self._connection, enable_idempotence=True)
        held: _Holdings | None = None
        try:
            await start(sender, f"starting {self.spec.name}'s sender")
            if self._memory is not None:
                await self._memory.open()
            held = await self._take_over(writer, sender)
            self.take_overs += 1
            await self._watch(held, tenure)
            self._set_role(tenure, "active")
            self._settled.set()
            log.info("%s is active from sequence %d", self.spec.name, held.agent.sequence)
            await self._rounds(held, tenure)
        finally:
            await asyncio.shield(asyncio.ensure_future(self._release(writer, sender, held)))

    async def _release(self, writer: LogWriter, sender: Any, held: _Holdings | None) -> None:
        for watch in held.watches if held is not None else ():
            await watch.stop()
        await stop_quietly(sender)
        await writer.stop()
        if self._memory is not None:
            await self._memory.stop()

    async def _take_over(self, writer: LogWriter, sender: Any) -> _Holdings:
        entries = await self._read_journal()
        agent, divergences = restore(self.spec, self._codec, entries)
        for found in divergences[:1]:
            log.warning("%s decides otherwise than its journal since sequence %d: %s", *_fields(found))
        self.sequence = agent.sequence
        held = _Holdings(writer, sender, agent, time.monotonic())
        # Effects follow their entries batch by batch, so only those of the last batch can be missing.
        await self._send(held, entries[-(BATCH + 1) :])
        return held

    async def _read_journal(self) -> list[JournalEntry]:
        """Entries from the last snapshot (or the log's start) on, found by looking further back each time."""
        topic, partition = self._place.topic, self._place.partition
        begin, end = await self._partitions.bounds(topic, partition)
        reach = TAIL
        while True:
            first = max(begin, end - reach)
            records = await self._partitions.read(topic, partition, first)
            entries = [self._codec.decode(JOURNAL, record.value) for record in records]
            if first == begin or any(entry.kind == "snapshot" for entry in entries):
                return entries
            reach *= 4

    async def _watch(self, held: _Holdings, tenure: _Tenure) -> None:
        for name in self.spec.watches:
            first = held.agent.cursors.get(f"{name}/0", -1) + 1

            def hand_over(batch: Sequence[LogRecord], name: str = name) -> None:
                held.watched.extend(_Waiting(_input_of_record(name, record)) for record in batch)
                tenure.wake.set()

            watch = PartitionWatch(self._connection, full_name(name), hand_over, first=first)
            held.watches.append(watch)
            await watch.start()

    async def _rounds(self, held: _Holdings, tenure: _Tenure) -> None:
        tick_s = self.spec.tick_ms / 1_000
        next_tick = time.monotonic()
        while True:
            await self._wait(held, tenure, next_tick if tick_s else None)
            batch = [held.watched.popleft() for _ in range(min(BATCH // 2, len(held.watched)))]
            consumed = [tenure.inbox[at] for at in range(min(BATCH // 2, len(tenure.inbox)))]
            inputs = [waiting.given for waiting in (*batch, *consumed)]
            if tick_s and time.monotonic() >= next_tick:
                inputs.append(TICK_INPUT)
                next_tick = max(next_tick + tick_s, time.monotonic() + tick_s / 2)
            await self._round(held, inputs)
            for waiting in consumed:
                tenure.inbox.popleft()
                waiting.event.ack()
            tenure.room.set()
            if time.monotonic() - held.claimed_s > RENEW_CLAIM_S:
                raise _ClaimAgedError(self.spec.name)

    async def _wait(self, held: _Holdings, tenure: _Tenure, until_s: float | None) -> None:
        if held.watched or tenure.inbox:
            return
        tenure.wake.clear()
        timeout = None if until_s is None else max(0.0, until_s - time.monotonic())
        try:
            await asyncio.wait_for(tenure.wake.wait(), timeout)
        except TimeoutError:
            return

    async def _round(self, held: _Holdings, inputs: Sequence[Input]) -> None:
        now_us = self._clock_us()
        entries = [entry for given in inputs if (entry := held.agent.step(given, now_us)) is not None]
        if not entries:
            return
        if held.agent.snapshot_due():
            entries.append(held.agent.snapshot())
        records: list[Outgoing] = [
            (self.spec.name.encode(), self._codec.encode(JOURNAL, entry), ()) for entry in entries
        ]
        writing = asyncio.ensure_future(_write(held.writer, records))
        writing.add_done_callback(self._note_refusal)
        await asyncio.shield(writing)
        self.sequence = held.agent.sequence
        await self._send(held, entries)

    def _note_refusal(self, future: asyncio.Future[None]) -> None:
        """Count a refused write, also one whose round was cancelled meanwhile."""
        if not future.cancelled() and future.exception() is not None:
            self.refused_writes += 1
            log.warning("a write to %s's journal was refused: %r", self.spec.name, future.exception())

    async def _send(self, held: _Holdings, entries: Sequence[JournalEntry]) -> None:
        """Send the effects of journaled entries in order and wait until all are written."""
        futures: list[Any] = []
        try:
            for entry in entries:
                for index, effect in enumerate(entry.effects):
                    if effect.topic == MEMORY_EVENTS:
                        await self._append(effect)
                    else:
                        futures.append(await self._hand_over(held, effect, effect_id(entry, index)))
            await bounded(asyncio.gather(*futures), SEND_TIMEOUT_S, f"sending {self.spec.name}'s effects")
        except KafkaError as error:
            raise UnreachableError(f"sending {self.spec.name}'s effects", type(error).__name__) from error
        finally:
            for future in futures:
                future.add_done_callback(_observe)

    async def _hand_over(self, held: _Holdings, effect: JournalEffect, identity: str) -> Any:
        sending = held.sender.send(
            full_name(effect.topic),
            effect.value,
            key=effect.key or None,
            partition=None if effect.partition < 0 else effect.partition,
            headers=[(EFFECT_HEADER, identity.encode())],
        )
        return await bounded(sending, SEND_TIMEOUT_S, f"sending {self.spec.name}'s effects")

    async def _append(self, effect: JournalEffect) -> None:
        if self._memory is None:
            raise InvariantError(f"{self.spec.name} has no memory to write to")
        await self._memory.append(self._codec.decode(MEMORY_EVENTS, effect.value))


class _ClaimAgedError(RetriableError):
    """The broker forgets unused transactional ids after days; a claim is renewed long before."""

    def __str__(self) -> str:
        return "the claim is a day old and is renewed"


async def _write(writer: LogWriter, records: Sequence[Outgoing]) -> None:
    await writer.confirm(await writer.submit(records))


def _fields(found: Any) -> tuple[str, int, str]:
    return found.agent, found.sequence, found.what


def _observe(future: Any) -> None:
    """Retrieve the exception of a send that nobody waits for any more."""
    if not future.cancelled():
        future.exception()


def _source(headers: Any) -> str:
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    return next((bytes(value).decode(errors="replace") for name, value in pairs if name == EFFECT_HEADER), "")


def _input_of_event(message: Any) -> Input:
    short = str(message.topic).removeprefix(PREFIX).removesuffix(SUFFIX)
    source = _source(message.headers)
    return Input(short, message.partition, message.offset, message.key or b"", message.value, source)


def _input_of_record(name: str, record: LogRecord) -> Input:
    return Input(name, 0, record.offset, record.key or b"", record.value, _source(record.headers))
