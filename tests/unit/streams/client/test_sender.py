"""Batches that leave together, a full batch, a producer that fails; no broker."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaError

from streams.client import sender as client_sender
from streams.client.calls import Calls
from streams.client.sender import Sender
from streams.connection import Connection, UnreachableError
from tests.support.client_records import record


class Batch:
    def __init__(self, room):
        self.room, self.values = room, []

    def append(self, *, timestamp, key, value):
        if len(self.values) == self.room:
            return None
        self.values.append((key, value))
        return timestamp is None


class Producer:
    """Keeps batches; ``outcomes`` are errors or offsets by batch, then the log's end. ``gate`` holds writes back."""

    def __init__(self, room=100, outcomes=()):
        self.room, self.outcomes = room, list(outcomes)
        self.batches, self.end, self.stopped = [], 0, False
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self):
        pass

    async def stop(self):
        self.stopped = True

    def create_batch(self):
        return Batch(self.room)

    async def send_batch(self, batch, topic, *, partition):
        assert topic == "requests"
        self.batches.append((partition, [value for _, value in batch.values]))
        return asyncio.ensure_future(self.write(len(batch.values)))

    async def write(self, size):
        await self.gate.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else self.end
        if isinstance(outcome, Exception):
            raise outcome
        self.end = max(self.end, outcome + size)
        return SimpleNamespace(offset=outcome)


@pytest.fixture
def producers(monkeypatch):
    """The producers that are made, in order."""
    made = []
    monkeypatch.setattr(client_sender, "producer", lambda connection, **settings: made.pop(0))
    return made


async def put(sender, calls, *values, partition=0, names=None):
    found = [await calls.open(str(value), None, 30) for value in values]
    for call, value in zip(found, values, strict=True):
        sender.put(call, partition, b"key", value)
    return found


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def sender_of(calls):
    return Sender(Connection("nowhere"), "requests", calls)


async def test_the_calls_of_one_turn_leave_together_and_learn_their_places(producers):
    producers.append(client := Producer())
    calls = Calls(10)
    sender = sender_of(calls)
    found = await put(sender, calls, b"a", b"b")
    await put(sender, calls, b"c", partition=1)
    await until(lambda: len(calls.lane(0).waiting) == 2 and len(calls.lane(1).waiting) == 1)
    assert sorted(client.batches) == [(0, [b"a", b"b"]), (1, [b"c"])]
    assert [calls.lane(0).waiting[call.offset] for call in found] == found
    assert (sender.queued_bytes, calls.lane(0).num_unplaced) == (0, 0)
    await sender.stop()
    assert client.stopped


async def test_what_comes_during_a_write_leaves_with_the_next(producers):
    producers.append(client := Producer())
    calls = Calls(10)
    sender = sender_of(calls)
    client.gate.clear()
    await put(sender, calls, b"a")
    await until(lambda: client.batches)
    await put(sender, calls, b"b")
    await put(sender, calls, b"c")
    client.gate.set()
    await until(lambda: len(calls.lane(0).waiting) == 3)
    assert client.batches == [(0, [b"a"]), (0, [b"b", b"c"])]
    await sender.stop()


async def test_a_record_that_a_full_batch_does_not_take_begins_the_next(producers):
    producers.append(client := Producer(room=2))
    calls = Calls(10)
    sender = sender_of(calls)
    found = await put(sender, calls, b"a", b"b", b"c", b"d", b"e")
    await until(lambda: len(calls.lane(0).waiting) == 5)
    assert client.batches == [(0, [b"a", b"b"]), (0, [b"c", b"d"]), (0, [b"e"])]
    assert [call.offset for call in found] == [0, 1, 2, 3, 4]
    await sender.stop()


async def test_a_call_that_is_over_is_not_sent(producers):
    producers.append(client := Producer())
    calls = Calls(10)
    sender = sender_of(calls)
    first, _ = await put(sender, calls, b"a", b"b")
    calls.close(first)
    await until(lambda: len(calls.lane(0).waiting) == 1)
    assert client.batches == [(0, [b"b"])]
    assert sender.queued_bytes == 0
    await sender.stop()


@pytest.mark.parametrize("outcome", [KafkaError("fenced"), -1])
async def test_a_failed_write_fails_its_calls_and_the_next_producer_goes_on(producers, outcome):
    producers += [first := Producer(outcomes=[outcome]), second := Producer()]
    calls = Calls(10)
    sender = sender_of(calls)
    (lost,) = await put(sender, calls, b"a")
    with pytest.raises(UnreachableError, match="sending a request failed"):
        await lost.future
    (found,) = await put(sender, calls, b"b")
    await until(lambda: found.offset == 0)
    assert (first.batches, second.batches) == ([(0, [b"a"])], [(0, [b"b"])])
    await until(lambda: first.stopped)
    await sender.stop()


async def test_without_a_broker_everything_that_waits_is_told(producers):
    class Away(Producer):
        async def start(self):
            raise KafkaError("nobody answers")

    producers += [Away(), Away()]
    calls = Calls(10)
    sender = sender_of(calls)
    for call in await put(sender, calls, b"a", b"b"):
        with pytest.raises(UnreachableError, match="nobody answers"):
            await call.future
    assert (sender.queued_bytes, len(calls)) == (0, 0)
    with pytest.raises(UnreachableError, match="connecting to send requests"):
        await sender.start()


async def test_a_write_without_end_is_given_up(producers, monkeypatch):
    monkeypatch.setattr(client_sender, "SEND_TIMEOUT_S", 0.01)
    producers.append(client := Producer())
    client.gate.clear()
    calls = Calls(10)
    sender = sender_of(calls)
    (call,) = await put(sender, calls, b"a")
    with pytest.raises(Exception, match="took longer than 0.01 s"):
        await call.future
    client.gate.set()
    await sender.stop()


async def test_the_end_during_a_write_stops_the_producer_and_fails_the_call(producers):
    producers.append(client := Producer())
    client.gate.clear()
    calls = Calls(10)
    sender = sender_of(calls)
    first, second = await put(sender, calls, b"a"), None
    await until(lambda: client.batches)
    second = await put(sender, calls, b"b")
    await sender.stop()
    assert client.stopped
    for call in (*first, *second):
        with pytest.raises(UnreachableError):
            await call.future
    client.gate.set()


async def test_large_requests_wait_for_room(producers, monkeypatch):
    monkeypatch.setattr(client_sender, "MAX_QUEUED_BYTES", 3)
    producers.append(client := Producer(room=1))
    calls = Calls(10)
    sender = sender_of(calls)
    client.gate.clear()
    await put(sender, calls, b"aa", b"bb", b"cc")
    waiting = asyncio.create_task(sender.room())
    await until(lambda: client.batches)
    assert not waiting.done()
    client.gate.set()
    await asyncio.wait_for(waiting, 5)
    assert sender.queued_bytes <= 3
    await sender.stop()


async def test_a_result_during_the_write_is_kept(producers):
    producers.append(client := Producer())
    calls = Calls(10)
    sender = sender_of(calls)
    client.gate.clear()
    (call,) = await put(sender, calls, b"a")
    await until(lambda: client.batches)
    calls.take(record((0, 0)), 3)
    client.gate.set()
    assert await asyncio.wait_for(call.future, 5) == (b"value", 3)
    await sender.stop()
