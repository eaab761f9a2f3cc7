"""The outlet: order, ids in headers, memory through its store, errors as ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

import streams.control.effect_outlet
from schemas.journal import JournalEffect, JournalEntry
from streams.connection import Connection, UnreachableError
from streams.control.effect_outlet import KafkaOutlet
from streams.control.event_store import EventStore
from streams.errors import InvariantError
from tests.support.event_store_contract import CODEC, event
from tests.support.partitions import MemoryPartitions


class FakeProducer:
    """Remembers what was sent; ``fails`` makes the sends fail after they were handed over."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.fails = False

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def send(self, topic: str, value: Any, **rest: Any) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, value, rest["key"], rest["partition"], rest["headers"]))
        if self.fails:
            future.set_exception(KafkaConnectionError("gone"))
        else:
            future.set_result(None)
        return future


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    monkeypatch.setattr(streams.control.effect_outlet, "producer", lambda connection, **settings: fake)
    return fake


def entry(sequence: int, *effects: JournalEffect) -> JournalEntry:
    return JournalEntry("planner", sequence, 1, "tick", "", -1, -1, b"", None, "", effects, b"")


async def opened(memory: EventStore | None = None) -> KafkaOutlet:
    outlet = KafkaOutlet("planner", Connection("127.0.0.1:1"), CODEC, memory)
    await outlet.open()
    return outlet


async def test_effects_go_out_in_order_with_their_ids(client: FakeProducer) -> None:
    outlet = await opened()
    await outlet.send(
        [
            entry(4, JournalEffect("control.plans", -1, b"a", b"1"), JournalEffect("control.plans", 0, b"", None)),
            entry(5, JournalEffect("control.alerts", -1, b"b", b"2")),
        ]
    )
    await outlet.close()
    assert client.sent == [
        ("isos.control.plans.v1", b"1", b"a", None, [("isos-effect", b"planner/4/0")]),
        ("isos.control.plans.v1", None, None, 0, [("isos-effect", b"planner/4/1")]),
        ("isos.control.alerts.v1", b"2", b"b", None, [("isos-effect", b"planner/5/0")]),
    ]


async def test_memory_events_go_through_the_store_once(client: FakeProducer) -> None:
    store = EventStore(MemoryPartitions(), CODEC)
    outlet = await opened(store)
    effect = JournalEffect("memory.events", 0, b"k", CODEC.encode("memory.events", event(1)))
    await outlet.send([entry(1, effect)])
    await outlet.send([entry(1, effect)])
    assert (store.sequence, client.sent) == (1, [])
    await outlet.close()


async def test_only_memorys_writer_writes_memory(client: FakeProducer) -> None:
    effect = JournalEffect("memory.events", 0, b"k", CODEC.encode("memory.events", event(1)))
    with pytest.raises(InvariantError, match="no memory"):
        await (await opened()).send([entry(1, effect)])


async def test_a_failed_send_is_retriable(client: FakeProducer) -> None:
    client.fails = True
    with pytest.raises(UnreachableError):
        await (await opened()).send([entry(1, JournalEffect("control.plans", -1, b"a", b"1"))])
