"""The journal-first interpreter: runs a journaled agent on Faust, on one instance at a time.

One Faust app per agent (``isos-<agent>``). The instance that is assigned the agent's first topic takes over
(``streams.control.tenure``), then consumes: a batch of inputs is a round, and its events are acknowledged after it.

Nothing of this runs inside Faust's assignment callback, which only starts a task; events wait in the inbox meanwhile
and stay there until they are acknowledged. After a refused or unknown write everything is given up, claimed and folded
anew, and the inbox is gone through again; the cursors drop what was journaled.

Consumed topics have one partition each and are range-assigned, so one instance holds all of them. Watched topics are
read from the journal's cursor, outside any group, and are inputs like the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from streams.agent import AgentSpec
from streams.connection import Connection, bounded
from streams.control.control_input import input_of_event
from streams.control.effect_outlet import KafkaOutlet, MemoryStore
from streams.control.generation import INBOX, Generation, Waiting
from streams.control.journal import TICK_INPUT, Input, RecordCodec
from streams.control.tenure import MAX_ROUND, JournalPlace, Tenure
from streams.errors import FencedError, InvariantError, RetriableError
from streams.faust_app import create_app
from streams.faust_transport import member_of
from streams.memory_view import MemoryHead
from streams.partition_log import PartitionLog
from streams.predecessor import MemberNote
from streams.registry.schema_watch import SchemaWatch
from streams.silence import FedPartition, watch_for_silence
from streams.topics import full_name
from streams.watch import PartitionWatch

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
RENEW_CLAIM_S: Final = 86_400.0
HEALTHY_S: Final = 30.0
FETCH_MAX_WAIT_MS: Final = 500
"""Longest idle fetch: six agents that ask ten times a second cost a broker more than all that they decide."""
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class _ClaimAgedError(RetriableError):
    """The broker forgets unused transactional ids after days; a claim is renewed long before."""

    def __str__(self) -> str:
        return "the claim is a day old and is renewed"


class ControlLoop:
    """Runs one journaled agent. ``role`` is standby, taking-over or active; ``on_defect`` hears of bugs of ours.

    ``note``: where it says who it is in its group, for whoever is started in its place.
    """

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
        schemas: SchemaWatch | None = None,
        note: MemberNote | None = None,
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
        self._memory = memory
        self._schemas = schemas
        self._note = note
        self._clock_us = clock_us
        self._on_defect = on_defect
        self._session_timeout_s = session_timeout_s
        self._generation: Generation | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        outlet = KafkaOutlet(spec.name, connection, codec, memory)
        place = place or JournalPlace.of(spec.name)
        self._new_tenure = partial(Tenure, spec, codec, partitions, place, outlet, self._note_refusal)
        self._app = create_app(
            spec.name,
            connection,
            session_timeout_s=session_timeout_s,
            data_dir=data_dir,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        )
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

    @property
    def memory_head(self) -> MemoryHead:
        """The end of memory as this agent wrote it; sequence 0 for an agent that does not write it, or a standby."""
        return MemoryHead() if self._memory is None else self._memory.view.head

    async def watch_for_silence(self) -> None:
        """Run until cancelled beside the loop. Raises SilentConsumerError when Faust hands nothing over any more."""
        await watch_for_silence(self._connection, self._app.conf.id, self._awaited, LOOK_S)

    def _awaited(self) -> list[FedPartition]:
        """The partitions that Faust can hand events to: none while the inbox is full."""
        return [] if self._generation is None else self._generation.awaited

    async def stop(self) -> None:
        """Give the agent up and leave the group."""
        self._end_generation()
        await self._ended()
        await self._app.stop()

    # Faust's side: events and assignments.

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._hold(event)

    async def _hold(self, event: Any) -> None:
        """Put an event into the inbox, waiting for room; one that comes without an assignment is not acknowledged."""
        generation = self._generation
        while generation is not None and generation is self._generation:
            if len(generation.inbox) < INBOX:
                if (fed := generation.fed.get(event.message.topic)) is not None:
                    fed.fed_offset = event.message.offset
                generation.inbox.append(Waiting(input_of_event(event.message), event))
                generation.wake.set()
                return
            generation.room.clear()
            await generation.room.wait()

    async def _assigned(self, _app: Any, *given: Any, **_: Any) -> None:
        self._end_generation()
        if self._note is not None:
            self._note.write(self._app.conf.id, member_of(self._app))
        anchor = full_name(self.spec.consumes[0])
        if not any(place.topic == anchor for place in given[0]):
            self._settled.set()
            return
        generation = self._generation = Generation()
        generation.fed = {place.topic: FedPartition(place.topic, place.partition) for place in given[0]}
        generation.task = asyncio.create_task(self._lead(generation), name=f"{self.spec.name} in charge")

    async def _revoked(self, _app: Any, *_given: Any, **_: Any) -> None:
        self._end_generation()

    def _end_generation(self) -> None:
        """Ask the generation's task to end; not waited for: heartbeats stand still during an assignment callback."""
        generation, self._generation = self._generation, None
        self.role = "standby"
        if generation is None or generation.task is None:
            return
        generation.room.set()
        generation.task.cancel()
        self._ending.add(generation.task)
        generation.task.add_done_callback(self._ending.discard)

    async def _ended(self) -> None:
        """Wait until earlier generations have released what they held."""
        if self._ending:
            await asyncio.wait(list(self._ending))

    # The agent's side: tenure after tenure while the assignment lasts.

    async def _lead(self, generation: Generation) -> None:
        failures = 0
        await self._ended()
        while generation is self._generation:
            began = time.monotonic()
            try:
                await self._serve(generation)
            except RetriableError as error:
                failures = 0 if time.monotonic() - began > HEALTHY_S else min(failures + 1, len(BACKOFF_S) - 1)
                log.warning("%s gives up its claim and takes over anew: %s", self.spec.name, error)
                self._set_role(generation, "taking-over")
                # Whoever was fenced most likely lost its assignment too and hears of it within a heartbeat or two.
                await asyncio.sleep(self._session_timeout_s if isinstance(error, FencedError) else BACKOFF_S[failures])
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # in a task of its own it would be lost; here it ends the process
                log.exception("%s met a defect of ours and stops", self.spec.name)
                self._on_defect(error)
                return

    def _set_role(self, generation: Generation, role: str) -> None:
        if generation is self._generation:
            self.role = role

    async def _serve(self, generation: Generation) -> None:
        self._set_role(generation, "taking-over")
        tenure = self._new_tenure()
        watches: list[PartitionWatch] = []
        generation.watched.clear()
        try:
            if self._schemas is not None:
                await self._schemas.catch_up()  # a predecessor may have written with a newer schema
            await tenure.take_over()
            self.sequence = tenure.agent.sequence
            self.take_overs += 1
            await self._watch(tenure, generation, watches)
            self._set_role(generation, "active")
            self._settled.set()
            log.info("%s is active from sequence %d", self.spec.name, self.sequence)
            await self._rounds(tenure, generation)
        finally:
            await asyncio.shield(asyncio.ensure_future(_release(tenure, watches)))

    async def _watch(self, tenure: Tenure, generation: Generation, watches: list[PartitionWatch]) -> None:
        for name in self.spec.watches:
            first = tenure.agent.cursors.get(f"{name}/0", -1) + 1
            hear = partial(generation.hear, name)
            watches.append(PartitionWatch(self._connection, full_name(name), hear, first=first))
            await watches[-1].start()

    async def _rounds(self, tenure: Tenure, generation: Generation) -> None:
        inbox, watched = generation.inbox, generation.watched
        tick_s = self.spec.tick_ms / 1_000
        next_tick = time.monotonic()
        share = MAX_ROUND // 2 - 1
        while tenure.age_s < RENEW_CLAIM_S:
            if not watched and not inbox:
                await _wait(generation.wake, next_tick if tick_s else None)
                if self.spec.gather_ms:
                    await asyncio.sleep(self.spec.gather_ms / 1_000)
            consumed = [inbox[at] for at in range(min(share, len(inbox)))]
            inputs = [watched.popleft().given for _ in range(min(share, len(watched)))]
            inputs += [waiting.given for waiting in consumed]
            if tick_s and time.monotonic() >= next_tick:
                inputs.append(TICK_INPUT)
                next_tick = max(next_tick + tick_s, time.monotonic() + tick_s / 2)
            await self._learn(inputs)
            await tenure.round(inputs, self._clock_us())
            self.sequence = tenure.agent.sequence
            for waiting in consumed:
                inbox.popleft()
                waiting.event.ack()
            generation.room.set()
        raise _ClaimAgedError

    async def _learn(self, inputs: Sequence[Input]) -> None:
        """Look for schemas that are unknown here; what is still unknown then is journaled as unreadable for good."""
        if self._schemas is not None:
            for given in inputs:
                if given.topic:
                    await self._schemas.prepare(given.topic, given.value)

    def _note_refusal(self, error: BaseException) -> None:
        self.refused_writes += 1
        log.warning("a write to %s's journal was refused: %s", self.spec.name, error)


async def _release(tenure: Tenure, watches: Sequence[PartitionWatch]) -> None:
    for watch in watches:
        await watch.stop()
    await tenure.release()


async def _wait(wake: asyncio.Event, until_s: float | None) -> None:
    wake.clear()
    try:
        # Not wait_for: on Python 3.11 it drops a cancellation that comes together with the wake-up, and a generation
        # that was ended would go on for ever.
        async with asyncio.timeout(None if until_s is None else max(0.0, until_s - time.monotonic())):
            await wake.wait()
    except TimeoutError:
        return
