"""The load generator against an answering thread that loses one request and answers another twice."""

import threading

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.ledger import SOURCE
from tests.support.broker import unique
from tests.support.load import Load, LoadRun

NUM_PARTITIONS = 2


@pytest.fixture
def topics(bootstrap):
    names = unique("load-requests"), unique("load-results")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, NUM_PARTITIONS, 1) for name in names]).values():
        future.result()
    return names


class Answerer(threading.Thread):
    """Answers every request OK, except offset ``lost`` of partition 0, and ``twice`` of partition 1 again."""

    def __init__(self, bootstrap, topics, *, lost=-1, twice=-1):
        super().__init__(daemon=True)
        self.requests, self.results = topics
        self.lost, self.twice = lost, twice
        self.done = threading.Event()
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("answerer")})
        self.consumer.assign([TopicPartition(self.requests, p, 0) for p in range(NUM_PARTITIONS)])
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})

    def run(self):
        while not self.done.is_set():
            if (request := self.consumer.poll(0.05)) is not None:
                self.answer(request.partition(), request.offset(), request.key())
            self.producer.poll(0)
        self.producer.flush(5)
        self.consumer.close()

    def answer(self, partition, offset, key):
        if (partition, offset) == (0, self.lost):
            return
        headers = [("isos-source", SOURCE.pack(bytes(16), partition, offset)), ("isos-status", b"O")]
        for _ in range(1 + ((partition, offset) == (1, self.twice))):
            self.producer.produce(self.results, b"value", key, partition, headers=headers)


def run(bootstrap, topics, folder, answerer, **settings):
    answerer.start()
    config = {"requests_topic": topics[0], "results_topic": topics[1], "drain_s": 1.5, **settings}
    with LoadRun(folder, bootstrap, 1, [Load("model-a"), Load("model-b")], 500, **config) as load:
        load.go()
        if settings.get("seconds"):
            record = load.wait()
        else:
            load.wait_for_flow()
            record = load.stop()
    answerer.done.set()
    answerer.join()
    return record


def test_everything_answered_once(bootstrap, topics, tmp_path):
    record = run(bootstrap, topics, tmp_path, Answerer(bootstrap, topics), seconds=1.0)
    summary = record.summary
    assert record.complete
    assert summary["sent"] == summary["ok"] == 500
    assert (summary["missing"], summary["duplicated"], summary["unacknowledged"]) == (0, 0, 0)
    assert 0 < summary["p50_ms"] <= summary["p99_ms"] <= summary["max_ms"]
    for partition in range(NUM_PARTITIONS):
        offsets = np.sort(record.sent.offset[record.sent.partition == partition])
        assert offsets.tolist() == list(range(250))
    assert set(record.sent.load.tolist()) == {0, 1}


def test_lost_and_repeated_are_seen(bootstrap, topics, tmp_path):
    record = run(bootstrap, topics, tmp_path, Answerer(bootstrap, topics, lost=40, twice=60), seconds=1.0)
    assert not record.complete
    assert (record.summary["missing"], record.summary["duplicated"]) == (1, 1)
    lost, twice = np.flatnonzero(record.matched.results == 0), np.flatnonzero(record.matched.results == 2)
    assert [(record.sent.partition[i], record.sent.offset[i]) for i in (*lost, *twice)] == [(0, 40), (1, 60)]


def test_stops_on_command(bootstrap, topics, tmp_path):
    record = run(bootstrap, topics, tmp_path, Answerer(bootstrap, topics))
    assert record.complete
    assert record.summary["ok"] == record.summary["sent"]
    assert 0 < record.summary["sent"] < 500 * 30


def test_offsets_are_learned_from_results_where_nobody_confirms(bootstrap, topics, tmp_path):
    answerer = Answerer(bootstrap, topics, lost=40, twice=60)
    record = run(bootstrap, topics, tmp_path, answerer, seconds=1.0, confirm=False)
    counts = [record.summary[name] for name in ("sent", "ok", "missing", "duplicated", "unacknowledged", "misplaced")]
    assert counts == [500, 499, 1, 1, 0, 0]
    twice = np.flatnonzero(record.matched.results == 2)
    assert [(record.sent.partition[i], record.sent.offset[i]) for i in twice] == [(1, 60)]
    assert np.flatnonzero(record.matched.results == 0).tolist() == [80]  # every other request is partition 0's


def test_steps_of_different_rates(bootstrap, topics, tmp_path):
    steps = ((100.0, 0.5), (500.0, 0.5))
    record = run(bootstrap, topics, tmp_path, Answerer(bootstrap, topics), seconds=1.0, steps=steps)
    assert record.summary["ok"] == 300
    assert np.diff(record.sent.scheduled_us)[[10, 100]].tolist() == [10_000, 2_000]
