"""Runs a data-plane agent on Faust: decode, decide, send, confirm, acknowledge in order.

One ``decide`` state per source partition, rebuilt with each generation (``streams.takeover``). An agent without a
ledger may consume several topics that are partitioned alike: each of their partitions has a run and acknowledgements of
its own, and those of one number share the state. A frame's Faust event is
acknowledged when every effect it caused is confirmed by the broker, and only in offset order. A failed or unknown send
gives the partition up: claim again, rebuild, and take the unfinished events from the front (``streams.partition_run``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import faust
from aiokafka import AIOKafkaProducer

from schemas.frame import InferenceFrame
from streams.agent import AgentSpec
from streams.codec import Codec
from streams.deferred import DeferredFrames
from streams.errors import InvariantError, PoisonRecordError
from streams.frame_check import checked
from streams.frame_effects import NoteDecision, NoteShadows, SendFrame
from streams.ledger_log import LedgerLog
from streams.partition_run import PartitionRun
from streams.registry.schema_watch import SchemaWatch, decode_or_learn
from streams.run_effects import SourceState
from streams.takeover import HeldPartition, Takeover
from streams.topics import TOPICS, full_name

MEMORY: Final = "memory.events"


class MemorySource(Protocol):
    """Where the newest memory view comes from."""

    @property
    def view(self) -> Any:
        """The newest ``MemoryView``."""
        ...


@dataclass(slots=True)
class FrameCounts:
    """What this process did, and who hears of what is answered, sent, decided, looked up and compared."""

    num_frames: int = 0
    num_rows: int = 0
    num_poison: int = 0
    num_takeovers: int = 0
    answered: Callable[[InferenceFrame, int], None] = field(default=lambda _frame, _us: None)
    sent: Callable[[SendFrame], None] = field(default=lambda _effect: None)
    decided: Callable[[NoteDecision], None] = field(default=lambda _effect: None)
    looked_up: Callable[[InferenceFrame, Any], None] = field(default=lambda _frame, _found: None)
    compared: Callable[[NoteShadows], None] = field(default=lambda _effect: None)


class FrameInterpreter:
    """One agent in one process. ``ledger_of`` opens a partition's ledger (the Validator); None for a plain sender.

    ``check`` is asked before a frame is decided on; what it raises ends the partition's run with the frame unfinished.
    ``look_up`` answers what the spec's ``lookups`` ask, within milliseconds and whatever happens; without it nothing is
    asked. ``fill`` takes answers to be cached, best effort.
    """

    def __init__(
        self,
        spec: AgentSpec,
        app: faust.App,
        producer: AIOKafkaProducer,
        codec: Codec,
        memory: MemorySource,
        *,
        ledger_of: Callable[[int], LedgerLog] | None = None,
        initial: Callable[[int, Any], Any] | None = None,
        check: Callable[[InferenceFrame], Awaitable[None]] | None = None,
        look_up: Callable[[Any], Awaitable[Any]] | None = None,
        fill: Callable[[Sequence[tuple[bytes, bytes]]], None] | None = None,
        on_defect: Callable[[BaseException], None],
        dead_letter: Callable[[Any, PoisonRecordError], Awaitable[None]],
        schemas: SchemaWatch | None = None,
    ) -> None:
        records = {TOPICS[name].record for name in spec.consumes}
        if len(records) != 1 or (ledger_of is not None and len(spec.consumes) > 1) or set(spec.watches) - {MEMORY}:
            raise InvariantError(f"{spec.name}: a frame agent consumes topics of one record and watches memory")
        self.spec = spec
        self.app = app
        self.producer = producer
        self.codec = codec
        self.memory = memory
        self.counts = FrameCounts()
        self._ledger_of = ledger_of
        self._initial = initial or (lambda _partition, _rebuilt: spec.initial(spec.params))
        self.dead_letter = dead_letter
        self.check = check
        self.look_up = look_up
        self.fill = fill
        self._schemas = schemas
        self.takeover = Takeover(app, self._own, on_defect)
        self._consumed = spec.consumes[0]
        self._shared: dict[int, tuple[int, SourceState]] = {}
        self._deferred: list[DeferredFrames] = []
        names = [full_name(name) for name in spec.consumes]
        topic = app.topic(*names, value_type=bytes, value_serializer="raw", key_serializer="raw")
        app.agent(topic, name=f"isos-{spec.name}")(self._agent)

    async def _agent(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self.takeover.feed(event)

    async def _own(self, held: HeldPartition) -> None:
        if self._schemas is not None:
            await self._schemas.catch_up()  # a predecessor may have written with a newer schema
        async with self._ledger(held.partition) as (ledger, rebuilt):
            state = self._state_for(held, self._initial(held.partition, rebuilt))
            self.counts.num_takeovers += 1
            held.ready.set()
            run = PartitionRun(self, held, ledger, state)
            self._deferred.append(run.deferred)
            try:
                await run.run()
            finally:
                self._deferred.remove(run.deferred)

    def deferred_frames(self) -> list[InferenceFrame]:
        """Frames that wait in this process for a time or for memory to change."""
        return [frame for deferred in self._deferred for frame in deferred.frames()]

    def _state_for(self, held: HeldPartition, fresh: Any) -> SourceState:
        """The state of a run: a new one, but for a further topic that of the partition's other run."""
        generation, known = self._shared.get(held.partition, (-1, SourceState(None)))
        if generation != held.generation or len(self.spec.consumes) == 1:
            known = SourceState(fresh)
            self._shared[held.partition] = (held.generation, known)
        elif held.topic == full_name(self._consumed):
            known.value = fresh
        return known

    @contextlib.asynccontextmanager
    async def _ledger(self, partition: int) -> AsyncIterator[tuple[LedgerLog | None, Any]]:
        if self._ledger_of is None:
            yield None, None
            return
        ledger = self._ledger_of(partition)
        try:
            yield ledger, await ledger.take_over()
        finally:
            await asyncio.shield(asyncio.ensure_future(ledger.close()))

    async def decode(self, value: bytes | None) -> InferenceFrame:
        """A frame of the consumed topic; PoisonRecordError when it is none, RetriableError when nobody can say."""
        return checked(await decode_or_learn(self.codec, self._schemas, self._consumed, value))
