"""The bounded queue between the stream and the one run that serves a partition.

The run takes all that waits in one go and sleeps until something is there, until someone wakes it for another reason,
or for some time: one future per sleep, and nothing per event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class EventQueue:
    """At most ``size`` events in the order they came. Any number of feeders, one reader."""

    __slots__ = ("_events", "_feeders", "_size", "_sleeper")

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: deque[Any] = deque()
        self._feeders: deque[asyncio.Future[None]] = deque()
        self._sleeper: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def qsize(self) -> int:
        """Events that wait."""
        return len(self._events)

    def empty(self) -> bool:
        """Whether no event waits."""
        return not self._events

    def full(self) -> bool:
        """Whether a feeder would have to wait."""
        return len(self._events) >= self._size

    async def put(self, event: Any) -> None:
        """Add an event, once there is room."""
        while self.full():
            room = asyncio.get_running_loop().create_future()
            self._feeders.append(room)
            await room
        self.put_nowait(event)

    def put_nowait(self, event: Any) -> None:
        """Add an event, whatever the size."""
        self._events.append(event)
        self.wake()

    def get_nowait(self) -> Any:
        """The oldest event; IndexError when none waits."""
        event = self._events.popleft()
        while self._feeders:  # all of them look again: who was cancelled meanwhile takes nobody's turn
            room = self._feeders.popleft()
            if not room.done():
                room.set_result(None)
        return event

    def wake(self) -> None:
        """End the reader's sleep, if it sleeps."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Wait for ``wake``, which every event calls, at most ``seconds``; not called while an event may be taken."""
        loop = asyncio.get_running_loop()
        sleeper = self._sleeper = loop.create_future()
        alarm = loop.call_later(seconds, self.wake)
        try:
            await sleeper
        finally:
            alarm.cancel()
            if self._sleeper is sleeper:
                self._sleeper = None
