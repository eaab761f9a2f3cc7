"""One partition of a data-plane agent in one generation: the single task that owns its state.

Takes events in offset order, decides, performs the effects and acknowledges an event when all of them are confirmed,
and only in order. Any failed or unknown send ends the run with the unfinished events in ``held.backlog``, from which
the next run begins after its take-over: nothing is retried in place. A checkpoint is decided from confirmed results
only, and confirmations are taken in the order of the log, so that it is never ahead of its bits.

Frames that are deferred wait in a heap by their time and are acknowledged late, with what is sent for them then. Where
an agent consumes two topics, the runs of a source partition share its state (``SourceState``).

Two bounds: ``WINDOW`` for the frames whose sends are under way, and a wider one for all that is not acknowledged, for
frames that wait (for a plan, for another try) hold up the acknowledgement of those behind them, but not their work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError, KafkaTimeoutError

from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame
from streams.agent import TICK, Event, Tick
from streams.deferred import UNSEEN, DeferredFrames
from streams.errors import InvariantError, PoisonRecordError, RetriableError
from streams.fenced import RENEW_AFTER_S, FencedWriter
from streams.frame_effects import Answer, Confirmed, Defer, FillCache, ScanRequests, SendFrame, WriteCheckpoint
from streams.ledger_log import LedgerLog
from streams.ordering import Entry, InOrder
from streams.results import offsets_of, result_batches
from streams.takeover import FrameLostError, HeldPartition
from streams.topics import full_name

if TYPE_CHECKING:
    from streams.interpreter import FrameInterpreter

log = logging.getLogger(__name__)

WINDOW: Final = 256
UNFINISHED_WINDOWS: Final = 16
MAX_UNFINISHED_BYTES: Final = 64 << 20
BURST: Final = 16
WAKE_S: Final = 0.05
LOOK_S: Final = 1.0


class SendFailedError(RetriableError):
    """A frame could not be sent, or its fate is unknown."""


@dataclass(slots=True)
class SourceState:
    """The state of a source partition, for all runs that feed it."""

    value: Any


@dataclass(slots=True)
class _Answered:
    effect: Answer
    entry: Entry[Any] | None


def now_us() -> int:
    """Wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class PartitionRun:
    """Runs until cancelled, or raises RetriableError when the partition must be taken over again."""

    def __init__(
        self, interpreter: FrameInterpreter, held: HeldPartition, ledger: LedgerLog | None, state: Any
    ) -> None:
        self.shell = interpreter
        self.held = held
        self.ledger = ledger
        self._source = state if isinstance(state, SourceState) else SourceState(state)
        self.window: InOrder[Any] = InOrder()
        held.unfinished = lambda: len(self.window)
        self.deferred = DeferredFrames()
        self.answers: list[_Answered] = []
        self.failure: BaseException | None = None
        self._writing = False
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._next_tick_us = 0
        self._decided_at = UNSEEN
        self._sending: dict[Entry[Any], int] = {}
        self._unfinished_bytes = 0
        self._blocked = False
        self._gave_up = False

    @property
    def state(self) -> Any:
        """The source partition's state."""
        return self._source.value

    @state.setter
    def state(self, state: Any) -> None:
        self._source.value = state

    @property
    def num_sending(self) -> int:
        """Frames of which something is sent and not confirmed; at most ``WINDOW``."""
        return len(self._sending)

    async def run(self) -> None:
        """Serve the partition; what is unfinished at the end stands in ``held.backlog``, oldest first."""
        backlog, events = deque(self.held.backlog), self.held.events
        try:
            while True:
                self._raise_failure()
                for _ in range(BURST):
                    if not (backlog or events) or not self._has_room():
                        break
                    view = self.shell.memory.view
                    if self.deferred.changed(view.sequence):
                        await self._look_at_deferred(now_us(), view)  # what waited goes first: a key's order is kept
                        if self.deferred.lacks_room or not self._has_room():
                            break
                    await self._take(backlog.popleft() if backlog else events.get_nowait(), view)
                await self._wake()
                self._raise_failure()
                if (backlog or events) and self._has_room():
                    await asyncio.sleep(0)  # sends seldom block: without this a full queue starves the heartbeats
                else:
                    await self._rest(blocked=bool(backlog or events))
        except RetriableError:
            self._gave_up = True
            raise
        finally:
            for task in self._side_tasks:
                task.cancel()
            self.held.backlog = [*self.window.unfinished(), *backlog]

    async def _rest(self, *, blocked: bool) -> None:
        """Sleep until there is an event, a failure, the time for something, or room for what is ``blocked``."""
        self._blocked = blocked or self.deferred.lacks_room
        await self.held.events.sleep(self._patience_s())
        self._blocked = False

    def _has_room(self) -> bool:
        return (
            len(self._sending) < WINDOW
            and len(self.window) < UNFINISHED_WINDOWS * WINDOW
            and self._unfinished_bytes < MAX_UNFINISHED_BYTES
        )

    def _patience_s(self) -> float:
        """How long there is nothing to do if nothing happens."""
        left_s = (self._next_tick_us - now_us()) / 1e6 if self.shell.spec.tick_ms else LOOK_S
        if self.shell.spec.due is not None:
            left_s = min(left_s, (self.shell.spec.due(self.state) - now_us()) / 1e6)
        if self.deferred:  # memory is looked at; what has no room is woken when there is some
            due_s = WAKE_S if self.deferred.lacks_room else (self.deferred.next_us() - now_us()) / 1e6
            left_s = min(left_s, due_s, WAKE_S)
        return min(max(left_s, 0.0), LOOK_S)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.ledger is not None and self.ledger.results.age_s > RENEW_AFTER_S:
            raise SendFailedError("the claim is a day old and is renewed")

    async def _take(self, event: Any, view: Any) -> None:
        entry = self.window.start(event)
        message = event.message
        self._unfinished_bytes += len(message.value or b"")
        coordinate = RecordCoordinate(message.topic, message.partition, message.offset)
        try:
            frame = await self.shell.decode(message.value)
        except PoisonRecordError as error:
            self.shell.counts.num_poison += 1
            await self.shell.dead_letter(message, error)
        else:
            if self.shell.check is not None:
                await self.shell.check(frame)
            self.shell.counts.num_frames += 1
            self.shell.counts.num_rows += len(frame.statuses)
            await self._step(frame, coordinate, entry, view)
        self._finish(entry)

    async def _step(
        self, record: Any, coordinate: RecordCoordinate, entry: Entry[Any] | None, memory: Any = None
    ) -> None:
        """Decide, by memory as it is now unless it is given, and perform the effects."""
        memory = self.shell.memory.view if memory is None else memory
        self._decided_at = memory.sequence
        looked_up = await self._looked_up(record, memory) if self.shell.look_up is not None else None
        event = Event(record, coordinate, now_us(), answers=memory, looked_up=looked_up)
        self.state, effects = self.shell.spec.decide(self.state, event, self.shell.spec.params)
        for effect in effects:
            await self._perform(effect, entry)

    async def _looked_up(self, record: Any, memory: Any) -> Any:
        """What is known of what the agent asks, by the memory that it decides by."""
        spec, look_up = self.shell.spec, self.shell.look_up
        if spec.lookups is None or look_up is None or not isinstance(record, InferenceFrame):
            return None
        asked = spec.lookups(record, memory, spec.params)
        return None if asked is None else await look_up(asked)

    async def _perform(self, effect: Any, entry: Entry[Any] | None) -> None:
        match effect:
            case SendFrame():
                await self._send(effect, entry)
            case Answer():
                self._answer(effect, entry)
            case Defer():
                self._defer(effect, entry)
            case FillCache():
                if self.shell.fill is not None:
                    self.shell.fill(effect.payloads)
            case WriteCheckpoint():
                self._beside(self._ledger().write_checkpoint(effect.checkpoint), "writing a checkpoint")
            case ScanRequests():
                self._beside(self._scan(effect), "the reaper's scan")
            case _:
                raise InvariantError(
                    f"{self.shell.spec.name} emitted {type(effect).__name__}, which nothing interprets"
                )

    def _ledger(self) -> LedgerLog:
        if self.ledger is None:
            raise InvariantError(f"{self.shell.spec.name} has no ledger: it may not answer, checkpoint or scan")
        return self.ledger

    async def _send(self, effect: SendFrame, entry: Entry[Any] | None) -> None:
        if effect.topic not in self.shell.spec.emits:
            raise InvariantError(f"{self.shell.spec.name} may not write {effect.topic}")
        value = self.shell.codec.encode(effect.topic, effect.frame)
        try:
            future = await self.shell.producer.send(full_name(effect.topic), value, partition=effect.partition)
        except KafkaError as error:
            # For want of room or of metadata nothing was taken; anything else is the producer's last word.
            failed = SendFailedError if error.retriable or isinstance(error, KafkaTimeoutError) else FrameLostError
            raise failed(f"sending to {effect.topic} failed: {error!r}") from error
        self.shell.counts.sent(effect)
        self._hold(entry)
        self._count(entry, 1)
        future.add_done_callback(lambda done: self._sent(done, entry))

    def _sent(self, done: asyncio.Future[Any], entry: Entry[Any] | None) -> None:
        error = _failure_of(done)
        if error is not None:
            lost = FrameLostError(f"a frame's send failed: {error!r}")
            self._fail(lost)
            if self._gave_up:  # for another reason, before it heard of this: nobody else tells
                self.shell.takeover.frame_lost(lost)
            return
        self._count(entry, -1)
        self._finish(entry)

    def _count(self, entry: Entry[Any] | None, sends: int) -> None:
        """Count a frame as under way while one of its sends is."""
        if entry is None:
            return
        count = self._sending.get(entry, 0) + sends
        if count > 0:
            self._sending[entry] = count
        else:
            del self._sending[entry]
            self._wake_blocked()

    def _wake_blocked(self) -> None:
        """Tell a run that waits for room that there is some."""
        if self._blocked:
            self.held.events.wake()

    def _fail(self, error: BaseException) -> None:
        """End the run with ``error``, unless it ends with an earlier one; a lost frame counts for more than others."""
        if self.failure is None or isinstance(error, FrameLostError):
            self.failure = error
        self.held.events.wake()

    def _defer(self, effect: Defer, entry: Entry[Any] | None) -> None:
        if entry is None:
            raise InvariantError("only a frame of an event can be deferred")
        self._hold(entry)
        self.deferred.push(effect.frame, effect.until_us, entry, self._decided_at)

    def _answer(self, effect: Answer, entry: Entry[Any] | None) -> None:
        self._hold(entry)
        self._count(entry, 1)
        self.answers.append(_Answered(effect, entry))
        if not self._writing:
            self._writing = True
            self._beside(self._write(self._ledger().results), "writing results")

    async def _write(self, results: FencedWriter) -> None:
        """Write all answers at hand, one write at a time: what comes meanwhile leaves together with the next.

        A partition has one batch under way, so a batch per frame would bound the frames per second by the round trip.
        """
        while self.answers:
            group, self.answers = self.answers, []
            batches = result_batches(self.shell.codec, [each.effect for each in group])
            try:
                _, end = await results.confirm(await results.submit_batches(batches))
            except RetriableError as error:
                log.warning("a write of results to partition %d failed: %s", self.held.partition, error)
                raise
            for answered in group:
                self._confirm(answered, end)
        self._writing = False

    def _confirm(self, answered: _Answered, end: int) -> None:
        """Take one confirmation; a group's are taken in one go, so no checkpoint is ahead of its bits."""
        offsets = offsets_of(answered.effect.frame)
        confirmed = Confirmed(offsets, end, len(offsets) if answered.effect.reaped else 0)
        self.state, _ = self.shell.spec.decide(self.state, Event(confirmed, TICK, now_us()), self.shell.spec.params)
        self.shell.counts.answered(answered.effect.frame, answered.effect.completed_us)
        self._count(answered.entry, -1)
        self._finish(answered.entry)

    def _beside(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Run beside the events; whatever it raises ends the run."""

        def ended(done: asyncio.Task[None]) -> None:
            self._side_tasks.discard(done)
            error = None if done.cancelled() else done.exception()
            if isinstance(error, KafkaError):
                error = SendFailedError(f"{what} failed: {error!r}")
            if error is not None:
                self._fail(error)

        task = asyncio.ensure_future(work)
        self._side_tasks.add(task)
        task.add_done_callback(ended)

    async def _scan(self, effect: ScanRequests) -> None:
        await self._step(await self._ledger().scan(effect), TICK, None)

    async def _wake(self) -> None:
        """News, ticks, and deferred frames whose time or memory has come."""
        news = self.held.news
        while news:
            await self._step(news.popleft(), TICK, None)
        now = now_us()
        tick_us = self.shell.spec.tick_ms * 1000
        if self.shell.spec.due is not None and self.shell.spec.due(self.state) <= now:
            await self._step(Tick(), TICK, None)
        if tick_us and not self._next_tick_us - tick_us <= now < self._next_tick_us:  # due, or the clock was set back
            self._next_tick_us = now + tick_us
            await self._step(Tick(), TICK, None)
        if self.deferred:
            await self._look_at_deferred(now, self.shell.memory.view)

    async def _look_at_deferred(self, now: int, view: Any) -> None:
        """Decide again on what is due, by one view; what has no room to send yet comes with the next look."""
        waiting = self.deferred.due(now, view.sequence)
        for at, held in enumerate(waiting):
            if len(self._sending) >= WINDOW:
                self.deferred.put_back(waiting[at:])
                return
            await self._step(held.frame, TICK, held.entry, view)
            self._finish(held.entry)

    def _hold(self, entry: Entry[Any] | None) -> None:
        if entry is not None:
            self.window.add(entry)

    def _finish(self, entry: Entry[Any] | None) -> None:
        if entry is None:
            return
        for event in self.window.finish(entry):
            self._unfinished_bytes -= len(event.message.value or b"")
            self._wake_blocked()
            if self.shell.takeover.is_current(self.held):
                event.ack()


def _failure_of(done: asyncio.Future[Any]) -> BaseException | None:
    """What a finished future failed with, a cancellation included."""
    return asyncio.CancelledError() if done.cancelled() else done.exception()
