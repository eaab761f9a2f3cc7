"""Reading of the partitions that were asked for, and going on after a failure where it stood; no broker."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streams.client import results as client_results
from streams.client.results import Results
from streams.connection import Connection, UnreachableError


class Log:
    """A topic: offsets that hold a record, by partition. Its consumers share it."""

    def __init__(self):
        self.ends = {}
        self.failures = []
        self.consumers = []

    def consumer(self, connection, **settings):
        assert settings["isolation_level"] == "read_committed"
        self.consumers.append(Consumer(self))
        return self.consumers[-1]


class Consumer:
    def __init__(self, log):
        self.log, self.at, self.stopped = log, {}, False

    async def start(self):
        pass

    async def stop(self):
        self.stopped = True

    def assign(self, places):
        self.at = dict.fromkeys(places)

    def seek(self, place, offset):
        self.at[place] = offset

    async def end_offsets(self, places):
        return {place: self.log.ends[place.partition] for place in places}

    async def getmany(self, timeout_ms):
        await asyncio.sleep(0)
        if self.log.failures:
            raise self.log.failures.pop(0)
        found = {}
        for place, at in self.at.items():
            end = self.log.ends[place.partition]
            if at < end:
                found[place] = [SimpleNamespace(partition=place.partition, offset=n) for n in range(at, end)]
                self.at[place] = end
        return found


@pytest.fixture
def log(monkeypatch):
    made = Log()
    monkeypatch.setattr(client_results, "consumer", made.consumer)
    monkeypatch.setattr(client_results, "RETRY_S", 0.001)
    monkeypatch.setattr(client_results, "FETCH_MS", 1)
    return made


class Reading:
    """Results under test, what they handed over and what they complained of."""

    def __init__(self):
        self.taken, self.failed = [], []
        self.results = Results(Connection("nowhere"), "results", self.take, self.failed.append)

    def take(self, record, now_us):
        assert now_us > 0
        self.taken.append((record.partition, record.offset))

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)


async def test_only_what_was_asked_for_is_read_and_from_its_end(log):
    log.ends = {0: 5, 1: 7, 2: 9}
    reading = Reading()
    await reading.results.start()
    assert not reading.results.reads(1)
    await reading.results.read(1)
    assert (reading.results.reads(1), reading.results.reads(0)) == (True, False)
    log.ends |= {0: 6, 1: 9, 2: 10}
    await reading.until(lambda: reading.taken)
    assert reading.taken == [(1, 7), (1, 8)]
    await reading.results.read(0)
    log.ends |= {0: 8, 1: 10}
    await reading.until(lambda: len(reading.taken) == 5)
    assert sorted(reading.taken[2:]) == [(0, 6), (0, 7), (1, 9)]
    assert set(log.consumers[0].at) == {TopicPartition("results", 0), TopicPartition("results", 1)}
    await reading.results.stop()
    assert (log.consumers[0].stopped, reading.results.is_alive) == (True, False)


async def test_a_failed_consumer_is_replaced_and_goes_on_where_it_stood(log):
    log.ends = {0: 5}
    reading = Reading()
    await reading.results.start()
    await reading.results.read(0)
    log.ends[0] = 6
    await reading.until(lambda: reading.taken == [(0, 5)])
    log.failures.append(OSError("gone"))
    log.ends[0] = 8
    await reading.until(lambda: len(reading.taken) == 3)
    assert reading.taken == [(0, 5), (0, 6), (0, 7)]
    assert (len(log.consumers), log.consumers[0].stopped, reading.failed) == (2, True, [])
    await reading.results.stop()


async def test_a_missing_right_is_told_to_whoever_waits(log):
    log.ends = {0: 5}
    reading = Reading()
    await reading.results.start()
    await reading.results.read(0)
    log.failures.append(TopicAuthorizationFailedError("results"))
    await reading.until(lambda: reading.failed)
    assert isinstance(reading.failed[0], UnreachableError)
    log.ends[0] = 6
    await reading.until(lambda: reading.taken == [(0, 5)])
    await reading.results.stop()


async def test_a_mistake_of_ours_is_told_too_and_ends_the_reading(log):
    log.ends = {0: 5}
    reading = Reading()
    await reading.results.start()
    await reading.results.read(0)
    log.failures.append(ZeroDivisionError("oops"))
    await reading.until(lambda: reading.failed)
    assert not reading.results.is_alive
    assert "oops" in str(reading.failed[0])
    await reading.results.stop()


async def test_an_end_that_cannot_be_asked_for_is_retriable(log):
    reading = Reading()
    await reading.results.start()

    async def refuse(places):
        raise KafkaError("no leader")

    log.consumers[0].end_offsets = refuse
    with pytest.raises(UnreachableError, match="no leader"):
        await reading.results.read(0)
    assert not reading.results.reads(0)
    await reading.results.stop()
