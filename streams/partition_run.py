"""One partition of a data-plane agent in one generation: the single task that owns its state.

Takes events in offset order, decides, has the effects performed (``streams/run_effects.py``) and acknowledges an event
when all of them are confirmed, and only in order. Any failed or unknown send ends the run with the unfinished events in
``held.backlog``, from which the next run begins after its take-over: nothing is retried in place.

Frames that are deferred wait in a heap by their time and are acknowledged late, with what is sent for them then. Where
an agent consumes two topics, the runs of a source partition share its state (``SourceState``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame
from streams.agent import TICK, Event, Tick
from streams.deferred import UNSEEN, DeferredFrames
from streams.errors import InvariantError, PoisonRecordError, RetriableError
from streams.frame_effects import Defer, Scanned
from streams.ledger_log import LedgerLog
from streams.ordering import Entry
from streams.run_effects import RunEffects, SourceState, now_us
from streams.takeover import HeldPartition

if TYPE_CHECKING:
    from streams.interpreter import FrameInterpreter

BURST: Final = 16
WAKE_S: Final = 0.05
LOOK_S: Final = 1.0


class PartitionRun:
    """Runs until cancelled, or raises RetriableError when the partition must be taken over again."""

    def __init__(
        self, interpreter: FrameInterpreter, held: HeldPartition, ledger: LedgerLog | None, state: Any
    ) -> None:
        self.shell = interpreter
        self.held = held
        self._source = state if isinstance(state, SourceState) else SourceState(state)
        self.effects = RunEffects(interpreter, held, ledger, self._source, self._take_scanned)
        self.window = self.effects.window
        held.unfinished = lambda: len(self.window)
        self.deferred = DeferredFrames()
        self._next_tick_us = 0
        self._decided_at = UNSEEN

    @property
    def state(self) -> Any:
        """The source partition's state."""
        return self._source.value

    async def run(self) -> None:
        """Serve the partition; what is unfinished at the end stands in ``held.backlog``, oldest first."""
        backlog, events = deque(self.held.backlog), self.held.events
        effects, window = self.effects, self.window
        try:
            while True:
                effects.raise_failure()
                for _ in range(BURST):
                    if not (backlog or events) or not window.has_room:
                        break
                    view = self.shell.memory.view
                    if self.deferred.changed(view.sequence):
                        await self._look_at_deferred(now_us(), view)  # what waited goes first: a key's order is kept
                        if self.deferred.lacks_room or not window.has_room:
                            break
                    await self._take(backlog.popleft() if backlog else events.get_nowait(), view)
                await self._wake()
                effects.raise_failure()
                if (backlog or events) and window.has_room:
                    await asyncio.sleep(0)  # sends seldom block: without this a full queue starves the heartbeats
                else:
                    await self._rest(blocked=bool(backlog or events))
        except RetriableError:
            effects.give_up()
            raise
        finally:
            effects.stop()
            self.held.backlog = [*window.unfinished(), *backlog]

    async def _rest(self, *, blocked: bool) -> None:
        """Sleep until there is an event, a failure, the time for something, or room for what is ``blocked``."""
        self.window.is_waited_for = blocked or self.deferred.lacks_room
        await self.held.events.sleep(self._patience_s())
        self.window.is_waited_for = False

    def _patience_s(self) -> float:
        """How long there is nothing to do if nothing happens."""
        left_s = (self._next_tick_us - now_us()) / 1e6 if self.shell.spec.tick_ms else LOOK_S
        if self.shell.spec.due is not None:
            left_s = min(left_s, (self.shell.spec.due(self.state) - now_us()) / 1e6)
        if self.deferred:  # memory is looked at; what has no room is woken when there is some
            due_s = WAKE_S if self.deferred.lacks_room else (self.deferred.next_us() - now_us()) / 1e6
            left_s = min(left_s, due_s, WAKE_S)
        return min(max(left_s, 0.0), LOOK_S)

    async def _take(self, event: Any, view: Any) -> None:
        entry = self.window.start(event)
        message = event.message
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
        self.window.finish(entry)

    async def _step(
        self, record: Any, coordinate: RecordCoordinate, entry: Entry[Any] | None, memory: Any = None
    ) -> None:
        """Decide, by memory as it is now unless it is given, and perform the effects."""
        memory = self.shell.memory.view if memory is None else memory
        self._decided_at = memory.sequence
        looked_up = await self._looked_up(record, memory) if self.shell.look_up is not None else None
        event = Event(record, coordinate, now_us(), answers=memory, looked_up=looked_up)
        self._source.value, effects = self.shell.spec.decide(self._source.value, event, self.shell.spec.params)
        for effect in effects:
            if isinstance(effect, Defer):
                self._defer(effect, entry)
            else:
                await self.effects.perform(effect, entry)

    async def _looked_up(self, record: Any, memory: Any) -> Any:
        """What is known of what the agent asks, by the memory that it decides by."""
        spec, look_up = self.shell.spec, self.shell.look_up
        if spec.lookups is None or look_up is None or not isinstance(record, InferenceFrame):
            return None
        asked = spec.lookups(record, memory, spec.params)
        if asked is None:
            return None
        found = await look_up(asked)
        self.shell.counts.looked_up(record, found)
        return found

    def _defer(self, effect: Defer, entry: Entry[Any] | None) -> None:
        if entry is None:
            raise InvariantError("only a frame of an event can be deferred")
        self.window.hold(entry)
        self.deferred.push(effect.frame, effect.until_us, entry, self._decided_at)

    async def _take_scanned(self, scanned: Scanned) -> None:
        await self._step(scanned, TICK, None)

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
            if self.window.is_sending_enough:
                self.deferred.put_back(waiting[at:])
                return
            await self._step(held.frame, TICK, held.entry, view)
            self.window.finish(held.entry)
