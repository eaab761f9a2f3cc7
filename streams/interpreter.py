"""Runs a data-plane agent on Faust: decode, decide, send, confirm, acknowledge in order.

One ``decide`` state per source partition, rebuilt with each generation (``streams.takeover``). A frame's Faust event is
acknowledged when every effect it caused is confirmed by the broker, and only in offset order. A failed or unknown send
gives the partition up: claim again, rebuild, and take the unfinished events from the front; nothing is retried in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame
from streams.agent import TICK, AgentSpec, Event, Tick
from streams.codec import Codec
from streams.errors import InvariantError, PoisonRecordError, RetriableError
from streams.fenced import RENEW_AFTER_S
from streams.frame_effects import Answer, Confirmed, Defer, ScanRequests, SendFrame, WriteCheckpoint
from streams.ledger_log import LedgerLog
from streams.ordering import InOrder
from streams.results import encode_results, offsets_of
from streams.takeover import HeldPartition, Takeover
from streams.topics import full_name

log = logging.getLogger(__name__)

WINDOW: Final = 256
WAKE_S: Final = 0.05
MAX_DEFERRED: Final = 10_000


class MemorySource(Protocol):
    """Where the newest memory view comes from."""

    @property
    def view(self) -> Any:
        """The newest ``MemoryView``."""
        ...


class SendFailedError(RetriableError):
    """A frame could not be sent, or its fate is unknown."""


@dataclass(slots=True)
class FrameCounts:
    """What this process did since its start; read by its heartbeat and telemetry."""

    num_frames: int = 0
    num_rows: int = 0
    num_poison: int = 0
    num_takeovers: int = 0
    answered: Callable[[InferenceFrame, int], None] = field(default=lambda _frame, _us: None)


@dataclass(slots=True)
class _Deferred:
    frame: InferenceFrame
    until_us: int
    sequence: int
    entry: Any


@dataclass(slots=True)
class _Answered:
    effect: Answer
    entry: Any
    writing: asyncio.Future[tuple[int, int]]


def now_us() -> int:
    """Wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class FrameInterpreter:
    """One agent in one process. ``ledger_of`` opens a partition's ledger (the Validator); None for a plain sender."""

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
        on_defect: Callable[[BaseException], None],
        dead_letter: Callable[[bytes | None, PoisonRecordError, RecordCoordinate], Awaitable[None]],
    ) -> None:
        self.spec = spec
        self.app = app
        self.producer = producer
        self.codec = codec
        self.memory = memory
        self.counts = FrameCounts()
        self._ledger_of = ledger_of
        self._initial = initial or (lambda _partition, _rebuilt: spec.initial(spec.params))
        self.dead_letter = dead_letter
        self.takeover = Takeover(app, self._own, on_defect)
        self._consumed = spec.consumes[0]
        topic = app.topic(full_name(self._consumed), value_type=bytes, value_serializer="raw", key_serializer="raw")
        app.agent(topic, name=f"isos-{spec.name}")(self._agent)

    async def _agent(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self.takeover.feed(event)

    async def _own(self, held: HeldPartition) -> None:
        async with self._ledger(held.partition) as (ledger, rebuilt):
            state = self._initial(held.partition, rebuilt)
            self.counts.num_takeovers += 1
            held.ready.set()
            await _PartitionRun(self, held, ledger, state).run()

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

    def decode(self, value: bytes | None) -> InferenceFrame:
        """A frame of the consumed topic; PoisonRecordError when it is none."""
        frame: InferenceFrame = self.codec.decode(self._consumed, value)
        return frame


class _PartitionRun:
    """One partition in one generation: the single task that owns ``state``."""

    def __init__(self, interpreter: FrameInterpreter, held: HeldPartition, ledger: LedgerLog | None, state: Any) -> None:
        self.shell = interpreter
        self.held = held
        self.ledger = ledger
        self.state = state
        self.window: InOrder[Any] = InOrder()
        self.deferred: deque[_Deferred] = deque()
        self.answers: deque[_Answered] = deque()
        self.failure: BaseException | None = None
        self.scan: asyncio.Task[Any] | None = None
        self.checkpoint: asyncio.Task[None] | None = None
        self._next_tick_us = 0

    async def run(self) -> None:
        backlog = deque(self.held.backlog)
        try:
            while True:
                self._raise_failure()
                event = backlog.popleft() if backlog else await self._next_event()
                if event is not None:
                    await self._take(event)
                await self._wake()
        finally:
            for task in (self.scan, self.checkpoint):
                if task is not None:
                    task.cancel()
            self.held.backlog = [*self.window.unfinished(), *backlog]

    async def _next_event(self) -> Any:
        if self.held.events.empty() or len(self.window) >= WINDOW:
            try:
                async with asyncio.timeout(WAKE_S):
                    if len(self.window) >= WINDOW:
                        await asyncio.sleep(WAKE_S)
                    return await self.held.events.get()
            except TimeoutError:
                return None
        return self.held.events.get_nowait()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.ledger is not None and self.ledger.results.age_s > RENEW_AFTER_S:
            raise SendFailedError("the claim is a day old and is renewed")

    async def _take(self, event: Any) -> None:
        entry = self.window.start(event)
        message = event.message
        coordinate = RecordCoordinate(message.topic, message.partition, message.offset)
        try:
            frame = self.shell.decode(message.value)
        except PoisonRecordError as error:
            self.shell.counts.num_poison += 1
            await self.shell.dead_letter(message.value, error, coordinate)
        else:
            self.shell.counts.num_frames += 1
            self.shell.counts.num_rows += len(frame.statuses)
            await self._step(frame, coordinate, entry)
        self._finish(entry)

    async def _step(self, record: Any, coordinate: RecordCoordinate, entry: Any) -> None:
        event = Event(record, coordinate, now_us(), answers=self.shell.memory.view)
        self.state, effects = self.shell.spec.decide(self.state, event, self.shell.spec.params)
        for effect in effects:
            await self._perform(effect, entry)

    async def _perform(self, effect: Any, entry: Any) -> None:
        match effect:
            case SendFrame():
                await self._send(effect, entry)
            case Answer():
                await self._answer(effect, entry)
            case Defer():
                if len(self.deferred) >= MAX_DEFERRED:
                    raise SendFailedError("too many frames wait for a plan")
                self._hold(entry)
                self.deferred.append(_Deferred(effect.frame, effect.until_us, self.shell.memory.view.sequence, entry))
            case WriteCheckpoint():
                self.checkpoint = asyncio.create_task(self._write_checkpoint(effect))
            case ScanRequests():
                self.scan = asyncio.create_task(self._scan(effect))
            case _:
                raise InvariantError(f"{self.shell.spec.name} emitted {type(effect).__name__}, which nothing interprets")

    async def _send(self, effect: SendFrame, entry: Any) -> None:
        if effect.topic not in self.shell.spec.emits:
            raise InvariantError(f"{self.shell.spec.name} may not write {effect.topic}")
        value = self.shell.codec.encode(effect.topic, effect.frame)
        try:
            future = await self.shell.producer.send(full_name(effect.topic), value, partition=effect.partition)
        except KafkaError as error:
            raise SendFailedError(f"sending to {effect.topic} failed: {error}") from error
        self._hold(entry)
        future.add_done_callback(lambda done: self._sent(done, entry))

    def _sent(self, done: asyncio.Future[Any], entry: Any) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self.failure = self.failure or SendFailedError(f"a frame's send failed: {error}")
            return
        self._finish(entry)

    async def _answer(self, effect: Answer, entry: Any) -> None:
        if self.ledger is None:
            raise InvariantError(f"{self.shell.spec.name} has no ledger and may not answer")
        records = encode_results(self.shell.codec, effect.frame, effect.completed_us, reaped=effect.reaped)
        submission = await self.ledger.results.submit(records)
        self._hold(entry)
        writing = asyncio.ensure_future(self.ledger.results.confirm(submission))
        self.answers.append(_Answered(effect, entry, writing))
        writing.add_done_callback(lambda _: self._confirm())

    def _confirm(self) -> None:
        """Take confirmations in the order of the log: a checkpoint must never be ahead of its bits."""
        while self.answers and self.answers[0].writing.done() and self.failure is None:
            answered = self.answers.popleft()
            error = SendFailedError("writing results was cancelled") if answered.writing.cancelled() else answered.writing.exception()
            if error is not None:
                log.warning("a write of results to partition %d failed: %s", self.held.partition, error)
                self.failure = error
                return
            _, end = answered.writing.result()
            offsets = offsets_of(answered.effect.frame)
            confirmed = Confirmed(offsets, end, len(offsets) if answered.effect.reaped else 0)
            self.state, _ = self.shell.spec.decide(self.state, Event(confirmed, TICK, now_us()), self.shell.spec.params)
            self.shell.counts.answered(answered.effect.frame, answered.effect.completed_us)
            self._finish(answered.entry)

    async def _write_checkpoint(self, effect: WriteCheckpoint) -> None:
        if self.ledger is None:
            raise InvariantError("a checkpoint without a ledger")
        try:
            await self.ledger.write_checkpoint(effect.checkpoint)
        except RetriableError as error:
            self.failure = self.failure or error

    async def _scan(self, effect: ScanRequests) -> None:
        if self.ledger is None:
            raise InvariantError("a scan without a ledger")
        try:
            scanned = await self.ledger.scan(effect)
        except (RetriableError, KafkaError) as error:
            self.failure = self.failure or SendFailedError(f"the reaper's scan failed: {error}")
            return
        await self._step(scanned, TICK, None)

    async def _wake(self) -> None:
        """Ticks, and deferred frames whose time or memory has come."""
        now = now_us()
        if self.shell.spec.tick_ms and now >= self._next_tick_us:
            self._next_tick_us = now + self.shell.spec.tick_ms * 1000
            await self._step(Tick(), TICK, None)
        sequence = self.shell.memory.view.sequence
        for _ in range(len(self.deferred)):
            held = self.deferred.popleft()
            if held.until_us <= now or held.sequence != sequence:
                await self._step(held.frame, TICK, held.entry)
                self._finish(held.entry)
            else:
                self.deferred.append(replace(held))

    def _hold(self, entry: Any) -> None:
        if entry is not None:
            self.window.add(entry)

    def _finish(self, entry: Any) -> None:
        if entry is None:
            return
        for event in self.window.finish(entry):
            if self.shell.takeover.is_current(self.held):
                event.ack()
