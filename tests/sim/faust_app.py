"""A Faust app without Faust: a group, one stream over its partitions, events that are acknowledged and committed.

Commits as Faust does: up to the end of the first run of acknowledged offsets, whatever is unacknowledged before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from streams.topics import full_name
from tests.sim.broker_clients import Fetched, Member
from tests.sim.group import Place

COMMIT_S = 1.0
IDLE_S = 0.1


class Signal:
    """Who is called on an assignment or a revocation."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def connect(self, callback: Any) -> None:
        self.heard.append(callback)


class SimEvent:
    """An event of the stream."""

    def __init__(self, app: SimApp, place: Place, message: Fetched) -> None:
        self.app = app
        self.place = place
        self.message = message

    def ack(self) -> None:
        """Acknowledge; whoever acknowledges an event of an older generation is believed, as in Faust."""
        acked = self.app.acked.get(self.place)
        if self.app.alive and acked is not None and self.message.offset >= self.app.floor[self.place]:
            acked.add(self.message.offset)


class SimApp(Member):
    """The app ``isos-<name>`` of a process, which is handed in as its connection."""

    def __init__(self, name: str, connection: Any, **_: Any) -> None:
        super().__init__(connection, name)
        self.conf = SimpleNamespace(id=f"isos-{name}")
        self.on_partitions_assigned, self.on_partitions_revoked = Signal(), Signal()
        self.positions: dict[Place, int] = {}
        self.acked: dict[Place, set[int]] = {}
        self.floor: dict[Place, int] = {}
        self.agents: list[Callable[[Any], Any]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def topic(self, *names: str, **_: Any) -> tuple[str, ...]:
        return names

    def agent(self, topics: Any, **_: Any) -> Callable[[Any], Any]:
        def registered(consume: Any) -> Any:
            self.agents.append(consume)
            return consume

        return registered

    async def start(self) -> None:
        loop = self.process.loop
        self.tasks = [loop.create_task(agent(self)) for agent in self.agents]
        self.tasks.append(loop.create_task(self.committing()))
        self.join()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await super().stop()

    async def rebalanced(self, places: tuple[Place, ...]) -> None:
        old, self.positions = [TopicPartition(full_name(t), p) for t, p in self.acked], {}
        for callback in self.on_partitions_revoked.heard:
            await callback(self, old)
        self.acked = {}
        await asyncio.sleep(0)
        for callback in self.on_partitions_assigned.heard:
            await callback(self, [TopicPartition(full_name(t), p) for t, p in places])
        self.positions = {place: self.first(place) for place in places}
        self.floor = dict(self.positions)
        self.acked = {place: set() for place in places}

    # The stream.

    def noack(self) -> SimApp:
        return self

    async def events(self) -> AsyncIterator[SimEvent]:
        while self.open:
            event = self.next_event()
            if event is None:
                await asyncio.sleep(IDLE_S)
            else:
                yield event
                await asyncio.sleep(0)

    def next_event(self) -> SimEvent | None:
        """The next record of some partition."""
        profile, rng = self.world.profile, self.world.rng
        places = [place for place, position in self.positions.items() if position < self.world.end(place)]
        if not places or not self.alive or rng.random() < profile.lag:
            return None
        place = rng.choice(places)
        records = self.world.log.read(*place, max(self.positions[place], self.world.start(place)), 1)
        self.positions[place] = records[0].offset + 1 if records else self.world.end(place)
        return SimEvent(self, place, Fetched.of(records[0])) if records else None

    # Commits.

    async def committing(self) -> None:
        while self.open:
            await asyncio.sleep(COMMIT_S)
            generation = self.generation
            for place, offset in self.committable().items():
                await asyncio.sleep(0)
                if self.alive and self.world.commit(self.group, self.name, generation, place, offset):
                    self.floor[place] = offset

    def committable(self) -> dict[Place, int]:
        """Behind the first run of acknowledged offsets, over gaps that hold no record."""
        found: dict[Place, int] = {}
        for place, acked in self.acked.items():
            ends = [offset for offset in acked if offset >= self.floor[place]]
            if not ends:
                continue
            end = min(ends)
            for record in self.world.log.scan(*place, end):
                if record.offset not in acked:
                    break
                end = record.offset + 1
            found[place] = end
        return found
