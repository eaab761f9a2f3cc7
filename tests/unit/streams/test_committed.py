"""Offsets behind acknowledged records only, in order, and nothing across a rebalance."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streams.committed import AGAIN, CommittedConsumer, Holder
from streams.errors import RetriableError
from tests.support.fake_kafka import FakeConsumer, FakeProducer, turns

PLACE, OTHER = TopicPartition("in", 0), TopicPartition("in", 1)


class Bench:
    """A member of a group, and a producer whose acknowledgements the test gives."""

    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.producer = FakeProducer(automatic=False)
        self.source = CommittedConsumer(self.consumer, "in")  # type: ignore[arg-type]

    def begin(self, end: int, place: TopicPartition = PLACE) -> Holder:
        progress = self.source.progress(place)
        return progress, progress.window.start(end)

    async def send(self, *holders: Holder) -> None:
        await self.source.send(self.producer, "out", b"v", 0, holders)  # type: ignore[arg-type]

    async def acknowledge(self, at: int) -> None:
        self.producer.sent[at].future.set_result(None)
        await turns()

    async def committed(self) -> dict[TopicPartition, int]:
        await self.source.commit()
        return dict(self.consumer.offsets)


async def test_an_entry_is_finished_with_its_last_record_and_in_order() -> None:
    bench = Bench()
    first, second = bench.begin(5), bench.begin(9)
    for holder in (first, second):
        await bench.send(holder)
        holder[0].finish(holder[1])
    await bench.acknowledge(1)
    assert (await bench.committed(), bench.source.in_flight) == ({}, 1)
    await bench.acknowledge(0)
    assert (await bench.committed(), bench.source.in_flight) == ({PLACE: 9}, 0)


async def test_a_record_of_several_entries_holds_them_all() -> None:
    bench = Bench()
    holders = [bench.begin(5), bench.begin(7), bench.begin(3, OTHER)]
    await bench.send(*holders)
    for progress, entry in holders:
        progress.finish(entry)
    assert await bench.committed() == {}
    await bench.acknowledge(0)
    assert await bench.committed() == {PLACE: 7, OTHER: 3}


async def test_a_rebalance_voids_what_is_under_way() -> None:
    bench = Bench()
    holder = bench.begin(5)
    await bench.send(holder)
    holder[0].finish(holder[1])
    assert bench.source.is_current(holder[0])
    await bench.source.on_partitions_assigned({PLACE})
    assert not bench.source.is_current(holder[0])
    await bench.acknowledge(0)
    assert await bench.committed() == {}
    assert bench.source.joined.is_set()


async def test_what_was_committed_is_not_committed_again() -> None:
    bench = Bench()
    progress, entry = bench.begin(5)
    progress.finish(entry)
    await bench.committed()
    await bench.committed()
    assert bench.consumer.commits == [{PLACE: 5}]


async def test_an_offset_that_went_back_is_committed_again_in_time() -> None:
    """A commit begun before a rebalance, and taken after it, is somebody else's older offset."""
    bench = Bench()
    progress, entry = bench.begin(5)
    progress.finish(entry)
    assert await bench.committed() == {PLACE: 5}
    bench.consumer.offsets[PLACE] = 2
    seen = [(await bench.committed())[PLACE] for _ in range(AGAIN)]
    assert seen == [*[2] * (AGAIN - 2), 5, 5]


async def test_a_failed_commit_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    progress, entry = bench.begin(5)
    progress.finish(entry)

    async def failing(offsets: object) -> None:
        raise KafkaConnectionError

    monkeypatch.setattr(bench.consumer, "commit", failing)
    assert await bench.committed() == {}
    monkeypatch.undo()
    assert await bench.committed() == {PLACE: 5}


async def test_a_failed_record_ends_the_process() -> None:
    bench = Bench()
    await bench.send(bench.begin(5))
    bench.source.check()
    bench.producer.sent[0].future.set_exception(KafkaConnectionError())
    await turns()
    assert bench.source.failed
    with pytest.raises(RetriableError):
        bench.source.check()


async def test_a_defect_of_ours_is_raised_as_it_is() -> None:
    source = Bench().source
    source.fail(TypeError("ours"))
    with pytest.raises(TypeError, match="ours"):
        source.check()


async def test_where_to_begin_is_the_brokers_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    async def failing(place: object) -> None:
        raise KafkaConnectionError

    monkeypatch.setattr(bench.consumer, "committed", failing)
    with pytest.raises(RetriableError, match="asking where to begin"):
        await bench.source.start_of(PLACE)


async def test_a_record_that_is_refused_at_once_is_raised() -> None:
    bench = Bench()
    bench.producer.error = KafkaConnectionError()
    with pytest.raises(RetriableError, match="out"):
        await bench.send(bench.begin(5))


async def test_the_first_failure_is_the_one_that_is_told() -> None:
    source = Bench().source
    source.fail(RetriableError("first"))
    source.fail(RetriableError("second"))
    with pytest.raises(RetriableError, match="first"):
        source.check()


async def test_draining_reads_no_more_and_commits_what_was_read() -> None:
    bench = Bench()
    bench.consumer.batches = [{PLACE: ["record"]}, {PLACE: ["later"]}]
    assert await bench.source.read(timeout_ms=0, max_records=1) == {PLACE: ["record"]}
    draining = asyncio.ensure_future(bench.source.drain())
    await turns()
    progress, entry = bench.begin(4)  # the loop is not through with its records yet
    assert await bench.source.read(timeout_ms=0, max_records=1) == {}
    assert await bench.source.read(timeout_ms=0, max_records=1) == {}
    await turns()
    assert not draining.done()
    progress.finish(entry)
    await asyncio.wait_for(draining, 5)
    assert bench.consumer.offsets == {PLACE: 4}
    assert bench.consumer.batches == [{PLACE: ["later"]}]
