"""The client on a real broker, before a process that answers everything: its cost, what it reads, what it survives."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from subprocess import Popen

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from isos import Answer, Client, NoResultError, Request, RetriableError
from streams.client import partitions as client_partitions
from streams.client import sender as client_sender
from streams.codec import SCHEMA_TEXTS, encode_body, subject_of
from streams.connection import Connection
from streams.ledger import SOURCE
from streams.provision import provision
from streams.varint import write_string
from tests.support.answering import answering
from tests.support.broker import unique
from tests.support.client_records import result
from tests.support.stack import RunningStack, stack_settings, wait_until
from tests.support.topics import create_topics

ROW = {"x": np.zeros((1, 256), np.float32)}
NUM_REQUESTS = 30_000
MAX_CPU_US = 100.0
pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True)
class Place:
    """A pair of topics of a test's own on the session's broker."""

    bootstrap: str
    topics: tuple[str, str]
    schema_id: int

    def client(self, **options: object) -> Client:
        return Client(self.bootstrap, topics=self.topics, **options)  # type: ignore[arg-type]

    def answering(self, topic_id: bytes = bytes(16)) -> AbstractContextManager[Popen[str]]:
        return answering(self.bootstrap, self.topics, self.schema_id, topic_id)

    def end(self, partition: int) -> int:
        """End of a partition of the results topic."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": unique("end")})
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(self.topics[1], partition), timeout=10)[1])
        finally:
            consumer.close()


@pytest.fixture(scope="module")
def schema_id(bootstrap: str) -> int:
    done = asyncio.run(provision(Connection(bootstrap), partitions=1, lanes=1))
    return done.schema_ids.write_ids[subject_of("inference.results")]


@pytest.fixture
def place(bootstrap: str, schema_id: int) -> Place:
    return Place(bootstrap, (unique("requests"), unique("results")), schema_id)


def requests(count: int) -> Iterator[Request]:
    return (Request("bench-00", ROW) for _ in range(count))


async def test_one_process_is_able_to_make_ten_thousand_requests_a_second(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    create_topics(place.bootstrap, *place.topics, partitions=2)
    with place.answering():
        async with place.client() as isos:
            await isos.infer_many(requests(2_000))
            cpu, wall = time.process_time(), time.perf_counter()
            count = 0
            async for answer in isos.stream(requests(NUM_REQUESTS)):
                count += answer.ok
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    cost_us = cpu / NUM_REQUESTS * 1e6
    with capsys.disabled():
        print(f"\nclient: {cost_us:.1f} us of CPU per request, {NUM_REQUESTS / wall:,.0f} requests/s")
    assert count == NUM_REQUESTS
    assert cost_us < MAX_CPU_US


async def test_only_partitions_with_requests_of_its_own_are_read(place: Place) -> None:
    create_topics(place.bootstrap, *place.topics, partitions=16)
    with place.answering():
        async with place.client() as isos:
            answers = await isos.infer_many(requests(50))
            assert len({answer.result.source.partition for answer in answers}) == 1
            keyed = await isos.infer_many(Request("m", ROW, routing_key=f"k-{number % 3}") for number in range(30))
            used = {answer.result.source.partition for answer in (*answers, *keyed)}
            assert 1 < len(used) <= 4
            assert {tp.partition for tp in isos._results._consumer.assignment()} == used


async def test_results_from_before_the_start_are_not_read(place: Place) -> None:
    create_topics(place.bootstrap, *place.topics)
    producer = Producer({"bootstrap.servers": place.bootstrap})
    headers = [("isos-source", SOURCE.pack(bytes(16), 0, 0))]
    producer.produce(place.topics[1], b"stranger", b"stranger", 0, headers=headers)
    producer.flush(10)
    with place.answering():
        async with place.client() as isos:
            assert (await isos.infer("m", ROW)).ok


async def test_requests_of_ten_megabytes_beside_small_ones(place: Place) -> None:
    create_topics(place.bootstrap, *place.topics, config={"max.message.bytes": str(12 * 1024 * 1024)})
    large = Request("m", {"x": np.zeros((1, 10_000_000), np.uint8)})
    with place.answering():
        async with place.client() as isos:
            mixed = [large if number % 10 == 0 else Request("m", ROW) for number in range(100)]
            most = 0
            async with aclosing(isos.stream(mixed, wait_s=120)) as arriving:
                async for answer in arriving:
                    most = max(most, isos._sender.queued_bytes)
                    assert answer.ok
            assert most <= client_sender.MAX_QUEUED_BYTES + 10_100_000
            assert (await isos.infer("m", {"x": np.zeros((1, 12_570_000), np.uint8)}, wait_s=60)).ok


async def test_calls_that_time_out_or_are_cancelled_leave_nothing(place: Place) -> None:
    create_topics(place.bootstrap, *place.topics)
    async with place.client(max_in_flight=10) as isos:  # nobody answers
        with pytest.raises(NoResultError):
            await isos.infer("m", ROW, wait_s=0.5)
        calls = [asyncio.create_task(isos.infer("m", ROW)) for _ in range(30)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)
        async with aclosing(isos.stream(requests(50), return_exceptions=True, wait_s=0.2)) as arriving:
            assert isinstance(await anext(arriving), NoResultError)
        assert len(isos._calls) == 0
        with place.answering():
            assert (await isos.infer("m", ROW)).ok


async def test_a_new_partition_is_used_when_both_topics_have_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_sender, "METADATA_AGE_MS", 200)
    monkeypatch.setattr(client_partitions, "LOOK_S", 0.05)
    create_topics(place.bootstrap, *place.topics)
    admin = AdminClient({"bootstrap.servers": place.bootstrap})

    def grow(topic: str) -> None:
        for future in admin.create_partitions([NewPartitions(topic, 4)]).values():
            future.result(10)

    async def used(isos: Client) -> set[int]:
        answers = await isos.infer_many(Request("m", ROW, routing_key=f"k-{number}") for number in range(20))
        return {answer.result.source.partition for answer in answers}

    with place.answering():
        async with place.client() as isos:
            assert await used(isos) == {0}
            grow(place.topics[0])
            async with asyncio.timeout(20):
                while await isos._sender.num_partitions(place.topics[0]) < 4:
                    await asyncio.sleep(0.05)
            assert await used(isos) == {0}
            grow(place.topics[1])
            async with asyncio.timeout(20):
                while await used(isos) != {0, 1, 2, 3}:
                    await asyncio.sleep(0.05)


async def test_a_requests_topic_made_anew_gives_no_strangers_answer(place: Place) -> None:
    create_topics(place.bootstrap, *place.topics)
    old, new = b"o" * 16, b"n" * 16
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    async with place.client() as isos:
        with place.answering(old):
            assert [answer.result.source.offset for answer in await isos.infer_many(requests(3))] == [0, 1, 2]
        for future in admin.delete_topics([place.topics[0]]).values():
            future.result(10)
        wait_until(lambda: place.topics[0] not in admin.list_topics(timeout=10).topics, 20, "the deletion")
        for future in admin.create_topics([NewTopic(place.topics[0], 1, 1)]).values():
            future.result(10)
        # Late answers of the old topic for the places that come next.
        producer = Producer({"bootstrap.servers": place.bootstrap})
        end = place.end(0)
        with place.answering(new):
            found: list[Answer] = []
            async with asyncio.timeout(60):
                while len(found) < 3:
                    for offset in range(10):
                        headers = [("isos-source", SOURCE.pack(old, 0, offset))]
                        producer.produce(place.topics[1], b"stranger", b"stranger", 0, headers=headers)
                    producer.flush(10)
                    try:
                        found.append(await isos.infer("m", ROW, wait_s=15))
                    except RetriableError:  # the producer finds its topic gone and is replaced
                        continue
        assert place.end(0) > end
        assert {answer.result.source.topic_id for answer in found} == {new}


@pytest.fixture(scope="module")
def broker_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A supervised broker and registry without any of our stages: it comes back when it is killed."""
    none = dict.fromkeys(("edges", "routers", "executors", "validators"), 0)
    with RunningStack(stack_settings(tmp_path_factory.mktemp("broker"), partitions=1, **none)) as stack:
        stack.wait_ready()
        yield stack


def register(port: int, schema: str) -> int:
    """Register a version of the results subject; its id."""
    address = f"http://127.0.0.1:{port}/subjects/{subject_of('inference.results')}/versions"
    body = json.dumps({"schema": schema, "schemaType": "AVRO"}).encode()
    asked = urllib.request.Request(address, body, {"Content-Type": "application/vnd.schemaregistry.v1+json"})
    with urllib.request.urlopen(asked, timeout=30) as reply:
        return int(json.load(reply)["id"])


async def test_a_result_of_a_newer_schema_is_read_once_it_is_registered(broker_only: RunningStack) -> None:
    settings = broker_only.settings
    schema = json.loads(SCHEMA_TEXTS["InferenceResult"])
    schema["fields"].append({"name": "note", "type": "string", "default": "", "doc": "What a newer release adds."})
    topics = unique("requests"), unique("results")
    create_topics(settings.bootstrap, *topics)
    async with Client(settings.bootstrap, topics=topics) as isos:
        call = asyncio.create_task(isos.submit(Request("m", ROW, request_id="r-1")))
        async with asyncio.timeout(30):
            while isos._calls.lane(0).last_offset < 0:
                await asyncio.sleep(0.01)
        newer = await asyncio.to_thread(register, settings.registry_port, json.dumps(schema))
        body = encode_body("InferenceResult", result("r-1")) + write_string("more than we know")
        producer = Producer({"bootstrap.servers": settings.bootstrap})
        headers: list[tuple[str, str | bytes | None]] = [("isos-source", SOURCE.pack(bytes(16), 0, 0))]
        producer.produce(topics[1], b"\x00" + newer.to_bytes(4, "big") + body, b"r-1", 0, headers=headers)
        producer.flush(10)
        assert (await call).result == result("r-1")


@pytest.mark.timeout(300)
async def test_a_broker_that_is_killed_costs_time_and_no_client(broker_only: RunningStack, schema_id: int) -> None:
    bootstrap = broker_only.settings.bootstrap
    topics = unique("requests"), unique("results")
    create_topics(bootstrap, *topics)
    seen: Counter[str] = Counter()
    over = asyncio.Event()

    async def ask(isos: Client) -> None:
        while not over.is_set():
            try:
                seen["ok"] += (await isos.infer("m", ROW, wait_s=60)).ok
            except RetriableError as error:
                seen[type(error).__name__] += 1
                await asyncio.sleep(0.05)

    with answering(bootstrap, topics, schema_id):
        async with Client(bootstrap, topics=topics) as isos:
            asking = [asyncio.create_task(ask(isos)) for _ in range(20)]
            async with asyncio.timeout(120):
                while seen["ok"] < 200:
                    await asyncio.sleep(0.01)
                pid = broker_only.kill("broker")
                await asyncio.to_thread(broker_only.wait_restarted, "broker", pid)
                before = seen["ok"]
                while seen["ok"] < before + 500:
                    await asyncio.sleep(0.01)
                over.set()
                await asyncio.gather(*asking)
            assert len(isos._calls) == 0
            assert seen["NoResultError"] == 0, seen
