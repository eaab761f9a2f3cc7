"""The clients of the simulated broker that read, in place of aiokafka's; ``tests.sim.broker_senders`` has the others.

They take the process in place of a connection. Every answer comes in another step of the scheduler; a call may see
less than there is, or fail at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CommitFailedError, KafkaTimeoutError

from streams.column_fetch import FetchedBytes, PartitionColumns
from streams.memory_log import LogRecord
from streams.topics import PREFIX, SUFFIX, full_name
from tests.sim.group import Place
from tests.support.record_batches import record_batches

if TYPE_CHECKING:
    from tests.sim.processes import Process


def place_of(topic: str, partition: int) -> Place:
    """The place of a topic's name on the broker."""
    return topic.removeprefix(PREFIX).removesuffix(SUFFIX), partition


@dataclass(frozen=True, slots=True)
class Fetched:
    """A record as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int

    @classmethod
    def of(cls, record: LogRecord) -> Fetched:
        """A record of the log."""
        return cls(
            full_name(record.topic), record.partition, record.offset, record.key, record.value, record.headers,
            record.timestamp_us // 1000,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a send is answered with."""

    topic: str
    partition: int
    offset: int


class Client:
    """What all clients share: they start, stop, and are of no effect once their process is gone."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.open = True

    @property
    def alive(self) -> bool:
        """Whether somebody takes the outcomes."""
        return self.open and self.process.alive

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        if self.alive:
            self.world.orphan(self)
        self.open = False

    async def call(self, what: str) -> None:
        """A round trip, which may fail."""
        await asyncio.sleep(0)
        if self.alive and self.world.rng.random() < self.world.profile.refusal:
            self.world.count("refused calls")
            raise KafkaTimeoutError(f"simulated: {what}")


class Member(Client):
    """A member of a group, heard of by the coordinator; ``places`` is what it holds since it last heard."""

    def __init__(self, process: Process, group: str) -> None:
        super().__init__(process)
        self.group = self.world.groups[group.removeprefix("isos-").split("-")[0]]
        self.name = ""
        self.generation = -1
        self.hearing: asyncio.Task[None] | None = None
        process.members.append(self)

    def join(self) -> None:
        """Enter the group as a new member."""
        self.name = f"{self.process.name}.{self.world.number()}"
        self.group.join(self.name, self.world.rng)
        self.process.names.append(self.name)

    @property
    def is_behind(self) -> bool:
        """Whether the group has gone on without it."""
        busy = self.hearing is not None and not self.hearing.done()
        return bool(self.name) and self.open and not busy and self.generation != self.group.generation

    def hear(self) -> str:
        """Learn of the group's newest generation; whoever was thrown out enters again."""
        if self.name not in self.group.members:
            self.join()
        self.generation = self.group.generation
        places = self.group.assignment[self.name]
        self.hearing = self.process.loop.create_task(self.rebalanced(places), name="rebalance")
        return f"generation {self.generation}: {' '.join(f'{t}-{p}' for t, p in places)}"

    async def rebalanced(self, places: tuple[Place, ...]) -> None:
        """Call back, then begin at the committed offsets."""
        raise NotImplementedError

    def first(self, place: Place) -> int:
        """Where reading begins."""
        return max(self.group.committed.get(place, 0), self.world.start(place))


class SimConsumer(Member):
    """An ``AIOKafkaConsumer``; with a group or with places of its own."""

    def __init__(self, connection: Any, *topics: str, **settings: Any) -> None:
        if settings.get("group_id"):
            super().__init__(connection, settings["group_id"])
        else:
            Client.__init__(self, connection)
            self.name = ""
        self.listener: Any = None
        self._client = SimpleNamespace(force_metadata_update=lambda: None)
        self.columns = False
        self.positions: dict[Place, int] = {}
        self.waits: dict[Place, None] = {}

    def deliver_columns(self, *, on_demand: bool = False) -> Callable[[], None]:
        """Hand on columns from now on; a fetch needs nobody to ask for it."""
        self.columns = True
        return lambda: None

    def subscribe(self, topics: Sequence[str], listener: Any = None) -> None:
        self.listener = listener
        self.join()

    async def rebalanced(self, places: tuple[Place, ...]) -> None:
        old, self.positions, self.waits = sorted(self.positions), {}, {}
        await self.listener.on_partitions_revoked([TopicPartition(full_name(t), p) for t, p in old])
        await asyncio.sleep(0)
        await self.listener.on_partitions_assigned([TopicPartition(full_name(t), p) for t, p in places])
        self.positions = {place: self.first(place) for place in places}

    def assign(self, places: Iterable[TopicPartition]) -> None:
        self.positions = {place_of(*each): self.world.start(place_of(*each)) for each in places}

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(full_name(t), p) for t, p in self.positions}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place_of(*place)] = offset

    def pause(self, *places: TopicPartition) -> None:
        self.waits.update(dict.fromkeys(place_of(*each) for each in places))

    def resume(self, *places: TopicPartition) -> None:
        for each in places:
            self.waits.pop(place_of(*each), None)

    def paused(self) -> set[TopicPartition]:
        return {TopicPartition(full_name(t), p) for t, p in self.waits}

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place_of(*place)]

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self.call("asking for the start")
        return {each: self.world.start(place_of(*each)) for each in places}

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self.call("asking for the end")
        return {each: self.world.end(place_of(*each)) for each in places}

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        await self.call("asking for a time")
        return {each: self._at_time(place_of(*each), time_ms) for each, time_ms in times.items()}

    def _at_time(self, place: Place, time_ms: int) -> Any:
        for record in self.world.log.scan(*place, self.world.start(place)):
            if record.timestamp_us // 1000 >= time_ms:
                return Metadata(full_name(place[0]), place[1], record.offset)
        return None

    async def committed(self, place: TopicPartition) -> int | None:
        await self.call("asking for the committed offset")
        return self.group.committed.get(place_of(*place))

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        await self.call("committing")
        if not self.alive:
            return
        generation = self.generation
        for place, offset in offsets.items():
            if not self.world.commit(self.group, self.name, generation, place_of(*place), offset):
                raise CommitFailedError("simulated: the generation is over")
        await self.call("hearing of the commit")

    async def getone(self, *places: TopicPartition) -> Fetched:
        while True:
            for records in (await self.getmany(*places, timeout_ms=1_000, max_records=1)).values():
                first: Fetched = records[0]
                return first

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        until = self.process.loop.time() + timeout_ms / 1000
        while self.alive:
            found = self._take([place_of(*each) for each in places] or list(self.positions), max_records)
            left = until - self.process.loop.time()
            if found or left <= 0:
                return found
            await self._data(left)
        return {}

    def _take(self, places: Sequence[Place], most: int | None) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = {}
        profile, rng = self.world.profile, self.world.rng
        for place in places:
            position = self.positions.get(place)
            if (
                position is None
                or place in self.waits
                or position >= self.world.end(place)
                or rng.random() < profile.lag
            ):
                continue
            limit = min(1_000 if self.columns else most or 1_000, rng.randint(1, profile.fetch))
            records = self.world.log.read(*place, max(position, self.world.start(place)), limit)
            self.positions[place] = records[-1].offset + 1 if records else self.world.end(place)
            if records:
                fetched = [Fetched.of(record) for record in records]
                whole = TopicPartition(full_name(place[0]), place[1])
                found[whole] = columns_of_batches(whole, fetched, rng) if self.columns else fetched
        return found

    async def _data(self, seconds: float) -> None:
        """Wait for an append to what is read, or for the end of the time."""
        loop = self.process.loop
        waiter = loop.create_future()
        timer = loop.call_later(seconds, partial(_wake, waiter))
        places = list(self.positions)
        for place in places:
            self.world.waiters.setdefault(place, {})[waiter] = None
        try:
            await waiter
        finally:
            timer.cancel()
            for place in places:
                self.world.waiters[place].pop(waiter, None)

    async def stop(self) -> None:
        if self.alive and self.name in self.group.members if self.name else False:
            self.group.leave(self.name, self.world.rng)
        self.positions = {}
        await super().stop()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def columns_of_batches(place: TopicPartition, records: Sequence[Fetched], rng: Random) -> list[Any]:
    """The records as batches of a broker's log, read as the edge's consumer reads them."""
    cuts = sorted({0, len(records), *(rng.randrange(len(records) + 1) for _ in range(rng.randint(0, 2)))})
    data = b"".join([record_batches(records[a:b]) for a, b in pairwise(cuts)])
    return list(
        PartitionColumns(place, FetchedBytes(data), [], records[0].offset, None, None, True, READ_COMMITTED)
    )  # fmt: skip
