"""Hand-written stand-ins for unit tests of loops: a producer, a consumer and a Faust app that do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition


@dataclass
class Sent:
    """One record handed to the producer; the test decides what becomes of it."""

    topic: str
    value: bytes | None
    partition: int | None
    key: bytes | None
    headers: list[tuple[str, bytes]]
    future: asyncio.Future[Any]


@dataclass
class FakeProducer:
    """Keeps what is sent. ``automatic``: everything is acknowledged at once; ``error``: ``send`` raises it."""

    automatic: bool = True
    error: Exception | None = None
    sent: list[Sent] = field(default_factory=list)

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        partition: int | None = None,
        key: bytes | None = None,
        headers: Any = (),
    ) -> asyncio.Future[Any]:
        if self.error is not None:
            raise self.error
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append(Sent(topic, value, partition, key, list(headers), future))
        if self.automatic:
            future.set_result(SimpleNamespace(offset=len(self.sent) - 1))
        return future

    async def send_and_wait(self, topic: str, value: bytes | None = None, **given: Any) -> Any:
        return await (await self.send(topic, value, **given))


@dataclass
class FakeConsumer:
    """Serves prepared batches, records commits; ``on_committed`` runs inside ``committed`` (a rebalance meanwhile)."""

    batches: list[dict[TopicPartition, list[Any]]] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    beginning: int = 0
    commits: list[dict[TopicPartition, int]] = field(default_factory=list)
    on_committed: Callable[[], Awaitable[None]] | None = None
    listener: Any = None

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.listener = listener

    async def getmany(self, *_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        return self.batches.pop(0) if self.batches else {}

    async def committed(self, place: TopicPartition) -> int | None:
        if self.on_committed is not None:
            hook, self.on_committed = self.on_committed, None
            await hook()
        return self.offsets.get(place)

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.beginning)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.commits.append(offsets)
        self.offsets.update(offsets)


@dataclass
class FakeSignal:
    """A Faust signal: remembers who is connected."""

    receiver: Callable[..., Awaitable[None]] | None = None

    def connect(self, receiver: Callable[..., Awaitable[None]]) -> None:
        self.receiver = receiver

    async def send(self, partitions: set[TopicPartition]) -> None:
        assert self.receiver is not None
        await self.receiver(None, partitions, signal=self)


class FakeApp:
    """What ``Takeover`` and ``FrameInterpreter`` use of a Faust app."""

    def __init__(self) -> None:
        self.on_partitions_assigned = FakeSignal()
        self.on_partitions_revoked = FakeSignal()
        self.topics: list[str] = []
        self.agents: list[str] = []

    def topic(self, *names: str, **_: Any) -> str:
        self.topics += names
        return names[0]

    def agent(self, _topic: str, name: str) -> Callable[[Any], Any]:
        self.agents.append(name)
        return lambda function: function

    async def assign(self, *places: tuple[str, int]) -> None:
        """A rebalance: revoke, then assign all of ``places``."""
        await self.on_partitions_revoked.send(set())
        await self.on_partitions_assigned.send({TopicPartition(*place) for place in places})


@dataclass(eq=False)
class FakeEvent:
    """A Faust event; ``acks`` counts acknowledgements."""

    value: bytes | None
    offset: int
    topic: str = "t"
    partition: int = 1
    acks: int = 0

    @property
    def message(self) -> FakeEvent:
        return self

    def ack(self) -> None:
        self.acks += 1


def record(value: bytes | None, offset: int, *, partition: int = 0, key: bytes | None = None, time_ms: int = 0) -> Any:
    """A consumed record."""
    return SimpleNamespace(
        topic="t", partition=partition, offset=offset, value=value, key=key, timestamp=time_ms, headers=()
    )


async def turns(count: int = 20) -> None:
    """Let the loop go round: everything that needs no time has happened afterwards."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; a test's own time limit ends it."""
    while not condition():
        await asyncio.sleep(0.001)
