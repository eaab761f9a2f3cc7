"""``isos ledger`` on a real broker: it must name the offset that is missing and the one that was answered twice."""

import json
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from infra.commands.ledger import app
from streams.ledger import SOURCE
from streams.topics import full_name
from tests.support.broker import unique

NUM_PARTITIONS = 2
NUM_REQUESTS = 300
TOPIC_ID = bytes(range(16))


@pytest.fixture
def topics(bootstrap):
    """A requests topic with gaps, and its complete results topic; short names."""
    names = unique("ledger-requests"), unique("ledger-results")
    for name in names:
        create(bootstrap, name)
    coordinates = write_requests(bootstrap, names[0])
    send(bootstrap, names[1], [(p, result(p, offset)) for p, offset in coordinates])
    return names


def create(bootstrap, *names):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    stamps = {"message.timestamp.type": "LogAppendTime"}
    new = [NewTopic(full_name(name), NUM_PARTITIONS, 1, config=stamps) for name in names]
    for future in admin.create_topics(new).values():
        future.result()


def result(partition, offset, status=b"O"):
    return [("isos-source", SOURCE.pack(TOPIC_ID, partition, offset)), ("isos-status", status)]


def send(bootstrap, name, records):
    producer = Producer({"bootstrap.servers": bootstrap})
    for partition, headers in records:
        producer.produce(full_name(name), b"value", partition=partition, headers=headers)
    assert producer.flush(10) == 0


def write_requests(bootstrap, name):
    """Requests with an aborted transaction in their midst and another at the end; the coordinates that count."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    producer.init_transactions(20)
    for keep in (True, False, True, False):
        producer.begin_transaction()
        for i in range(NUM_REQUESTS // 2):
            producer.produce(full_name(name), b"value", partition=i % NUM_PARTITIONS)
        assert producer.flush(10) == 0  # what is still queued at an abort would never reach the log
        (producer.commit_transaction if keep else producer.abort_transaction)(20)
    per = NUM_REQUESTS // 2 // NUM_PARTITIONS  # and one marker after each transaction
    starts = (0, 2 * (per + 1))
    return [(p, start + i) for p in range(NUM_PARTITIONS) for start in starts for i in range(per)]


def read(bootstrap, name):
    """Partition and headers of every record, in log order per partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("copy")})
    found = []
    for partition in range(NUM_PARTITIONS):
        place = TopicPartition(full_name(name), partition, 0)
        end = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign([place])
        while consumer.position([place])[0].offset < end:
            if (message := consumer.poll(5)) is not None:
                found.append((partition, message.headers()))
    consumer.close()
    return found


def audit(bootstrap, topics, *flags):
    arguments = ["--requests-topic", full_name(topics[0]), "--results-topic", full_name(topics[1]), *flags]
    return CliRunner().invoke(
        app, [*arguments, "--topic-id", TOPIC_ID.hex(), "--output", "json"], env={"ISOS_BROKERS": bootstrap}
    )


def test_complete_topics_balance(bootstrap, topics):
    done = audit(bootstrap, topics, "--drained")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["received"], report["ok"], report["missing"], report["duplicated"]) == (
        NUM_REQUESTS,
        NUM_REQUESTS,
        0,
        0,
    )
    assert [p["received"] for p in report["partitions"]] == [NUM_REQUESTS // 2] * 2


def test_copy_with_one_deleted_and_one_repeated_names_both(bootstrap, topics):
    complete = read(bootstrap, topics[1])
    assert len(complete) == NUM_REQUESTS
    deleted, repeated = complete[40], complete[200]
    copy = unique("ledger-copy")
    create(bootstrap, copy)
    send(bootstrap, copy, [record for record in complete if record is not deleted] + [repeated])
    gone, twice = (SOURCE.unpack(dict(headers)["isos-source"]) for _, headers in (deleted, repeated))

    done = audit(bootstrap, (topics[0], copy), "--drained")
    assert done.exit_code == 7
    assert f"partition {gone[1]}: 1 in_flight: offsets {gone[2]}\n" in done.stderr
    assert f"partition {twice[1]}: 1 duplicated: offsets {twice[2]}\n" in done.stderr
    report = json.loads(done.stdout)
    assert report["partitions"][gone[1]]["in_flight"]["first"] == [gone[2]]
    assert report["partitions"][twice[1]]["duplicated"]["first"] == [twice[2]]

    # Older than timeout and grace, the open one is missing, drained or not.
    done = run_with_age(bootstrap, (topics[0], copy), max_timeout_ms=1)
    assert done.exit_code == 7
    assert f"partition {gone[1]}: 1 missing: offsets {gone[2]}\n" in done.stderr


def run_with_age(bootstrap, topics, *, max_timeout_ms):
    time.sleep(0.01)  # by then what was sent is older than the time-outs that are given
    arguments = ["--requests-topic", full_name(topics[0]), "--results-topic", full_name(topics[1])]
    environment = {
        "ISOS_BROKERS": bootstrap,
        "ISOS_MAX_TIMEOUT_MS": str(max_timeout_ms),
        "ISOS_DEFAULT_TIMEOUT_MS": "1",
        "ISOS_GRACE_MS": "0",
    }
    return CliRunner().invoke(app, [*arguments, "--topic-id", TOPIC_ID.hex()], env=environment)


def test_own_topic_id_is_asked_for(bootstrap, topics):
    arguments = ["--requests-topic", full_name(topics[0]), "--results-topic", full_name(topics[1]), "--output", "json"]
    done = CliRunner().invoke(app, arguments, env={"ISOS_BROKERS": bootstrap})
    report = json.loads(done.stdout)
    # The results name another topic, so to this one they are foreign and its requests are open.
    assert (done.exit_code, report["foreign"], report["in_flight"]) == (0, NUM_REQUESTS, NUM_REQUESTS)


def test_unknown_topic_is_3(bootstrap, topics):
    done = audit(bootstrap, (topics[0], "nowhere"))
    assert (done.exit_code, done.stdout) == (3, "")
    assert "isos.nowhere.v1 does not exist" in done.stderr


def test_no_broker_is_6():
    environment = {"ISOS_BROKERS": "127.0.0.1:1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", "from infra.commands.ledger import app; app()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 6
    assert "The broker does not answer" in done.stderr
    assert "Traceback" not in done.stderr
