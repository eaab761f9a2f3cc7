"""``isos memory verify`` on a whole stack: clean after real traffic, and a record of somebody else is void."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from aiokafka import TopicPartition
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from infra import memory_check
from infra.log_reader import LogReader
from streams.chain_check import EVENTS as SHORT
from streams.client.client import Client
from streams.client.request import Request
from streams.codec import Codec
from streams.connection import Connection, producer
from streams.control.event_store import EventStore, MemoryPlace
from streams.partition_log import KafkaLog
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from tests.support.broker import unique
from tests.support.event_store_contract import CODEC, event
from tests.support.served import MODEL
from tests.support.stack import RunningStack
from tests.support.topics import create_topics

EVENTS = full_name("memory.events")
pytestmark = pytest.mark.timeout(180)


async def forge(bootstrap: str) -> tuple[list[int], int]:
    """Write what a stranger might: garbage, an event that says it is the next, and one of before.

    Their offsets, and the sequence of the last event of then.
    """
    connection = Connection(bootstrap)
    codec = Codec(await read_schema_ids(connection))
    last = (await (await LogReader.connect(connection)).memory_events())[-1].event
    next_one = dataclasses.replace(last, sequence=last.sequence + 1, prev_hash=b"\x01" * 32, body='{"forged":true}')
    client = producer(connection)
    await client.start()
    try:
        values = [b"garbage", codec.encode("memory.events", next_one), codec.encode("memory.events", last)]
        written = [await client.send_and_wait(EVENTS, value, key=last.key.encode(), partition=0) for value in values]
    finally:
        await client.stop()
    return [each.offset for each in written], last.sequence


async def test_clean_after_traffic_and_a_strangers_records_are_void(whole_stack: RunningStack) -> None:
    async with Client(whole_stack.settings.bootstrap) as isos:
        await isos.infer_many([Request(MODEL, {"x": np.zeros((1, 256), np.float32)})] * 20)
    before = whole_stack.isos_json("memory", "verify")
    assert (before["sound"], before["faults"]) == (True, [])
    known = before["voids"]  # other tests write what a stranger might as well
    assert before["records"] - len(known) == before["sequence"] > 0
    assert before["records"] + before["markers"] == before["end"]  # each claim of the writer leaves markers
    assert before["markers"] > 0

    offsets, last = await forge(whole_stack.settings.bootstrap)
    done = whole_stack.isos("memory", "verify", "--head", before["head"], "--output", "json")
    forged = json.loads(done.stdout)
    assert (forged["sound"], forged["sequence"] >= last) == (True, True)  # an alert of it may be an event itself
    voids = forged["voids"][len(known) :]
    assert [each["offset"] for each in voids] == offsets
    assert [each["sequence"] for each in voids] == [None, last + 1, last]
    assert done.stderr.count("void: memory.events/0, offset ") == len(known) + 3

    whole_stack.isos("serving", "set", MODEL, "--max-attempts", "5")  # the writer goes on behind them
    after = whole_stack.isos_json("memory", "verify", "--head", before["head"])
    assert (after["sound"], [each["offset"] for each in after["voids"][len(known) :]]) == (True, offsets)
    assert after["sequence"] > before["sequence"]


def test_a_head_that_never_stood_is_exit_code_7(whole_stack: RunningStack) -> None:
    done = whole_stack.isos("memory", "verify", "--head", f"1:{'ab' * 32}", check=False)
    assert done.returncode == 7
    assert "broken: memory.events/0, offset " in done.stderr
    assert "sequence 1: its hash is not the noted one" in done.stderr
    past = whole_stack.isos("memory", "verify", "--head", f"100000:{'ab' * 32}", check=False)
    assert (past.returncode, "the noted head is 100000" in past.stderr) == (7, True)


async def test_a_log_that_lost_its_beginning_and_a_state_of_somebody_else(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryPlace(unique("events"), unique("state"))
    create_topics(bootstrap, place.events)
    create_topics(bootstrap, place.state, config={"cleanup.policy": "compact"})
    monkeypatch.setattr(memory_check, "EVENTS_PLACE", TopicPartition(place.events, 0))
    monkeypatch.setattr(memory_check, "STATE_PLACE", TopicPartition(place.state, 0))
    connection = Connection(bootstrap)
    store = EventStore(KafkaLog(connection), CODEC, place)
    for first in (1, 4):  # two tenures, so that markers stand between the events too
        await store.open()
        for number in range(first, first + 3):
            await store.append(event(number, f"k{number % 2}", version=(number + 1) // 2))
        await store.stop()
    whole = await memory_check.look(connection, CODEC, (), lambda *_: None)
    assert (whole.faults, whole.voids, whole.num_records, whole.head) == ((), (), 6, store.view.head)
    assert whole.num_records + whole.num_markers == whole.end
    assert whole.num_markers >= 2

    client = producer(connection)
    await client.start()
    written = await client.send_and_wait(place.state, b"forged", key=b"k1", partition=0)
    await client.stop()
    (fault,) = (await memory_check.look(connection, CODEC, (), lambda *_: None)).faults
    assert (fault.topic, fault.offset) == ("memory.state", written.offset)

    cut = whole.head_offset - 1
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_records([Place(place.events, 0, cut)]).values():
        future.result(20)
    broken = await memory_check.look(connection, CODEC, (), lambda *_: None)
    assert [(each.topic, each.offset, each.sequence) for each in broken.faults] == [(SHORT, cut, 1), (SHORT, cut, 0)]
