"""Dead letters on a whole stack: whole records, failing writes, sending again, and 2 % of them under load."""

import asyncio
import collections
import json
import time

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.bench.template import template
from schemas.request import InferenceRequest
from streams.client.client import to_tensor
from streams.codec import encode_body, subject_of
from streams.connection import Connection
from streams.fenced import FencedWriter
from streams.ledger import SOURCE
from streams.letters.letter import REDRIVEN_FROM, parse_letter
from streams.provision import topic_ids
from streams.registry.schema_log import SchemaVersion, read_schema_ids, read_schema_log, schema_record
from streams.registry.schema_text import normalise
from streams.topic_watch import edge_group
from streams.topics import MAX_RECORD_BYTES, SCHEMAS_TOPIC, full_name
from tests.support.broker import unique
from tests.support.load import Load, LoadRun
from tests.support.poison import GARBAGE, Poison
from tests.support.served import MODEL, register_models
from tests.support.stack import SESSION_S, RunningStack, stack_settings, wait_until

REQUESTS, RESULTS, DLQ = (full_name(f"inference.{name}") for name in ("requests", "results", "dlq"))
PATIENCE_MS = 120_000
STATUSES = {b"O": "OK", b"E": "ERROR", b"R": "REJECTED", b"X": "EXPIRED"}
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = stack_settings(tmp_path_factory.mktemp("dead-letters"), session_timeout_s=SESSION_S)
    with RunningStack(settings) as running:
        running.wait_ready(180)
        asyncio.run(register_models(settings))
        yield running


@pytest.fixture(scope="module")
def bootstrap(stack):
    return stack.settings.bootstrap


@pytest.fixture(scope="module")
def schema_id(bootstrap):
    return asyncio.run(read_schema_ids(Connection(bootstrap))).write_ids[subject_of("inference.requests")]


def send(bootstrap, *records, partition=0, **settings):
    """Produce (key, value, headers) in order; their offsets."""
    offsets = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 100_000_000, **settings})
    for key, value, headers in records:
        producer.produce(
            REQUESTS, value, key, partition, headers=headers,
            on_delivery=lambda error, message: offsets.append(message.offset() if error is None else error),
        )  # fmt: skip
    assert producer.flush(60) == 0
    return offsets


def read(bootstrap, topic, first=None):
    """Every record of a topic, or those from ``first`` (an offset by partition) on."""
    settings = {"enable.partition.eof": True, "fetch.message.max.bytes": 1 << 25, "group.id": unique("read")}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    found = []
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        place = TopicPartition(topic, number, (first or {}).get(number, 0))
        if place.offset >= consumer.get_watermark_offsets(place, timeout=10)[1]:
            continue
        consumer.assign([place])
        while (message := consumer.poll(20)) is not None and message.error() is None:
            found.append(message)
        assert message is not None, f"nothing came from {topic}-{number}"
        assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
    consumer.close()
    return found


def statuses(bootstrap, found=None, first=None):
    """Statuses by (partition, offset) of the request, one per result; ``found`` and ``first`` carry on."""
    found = collections.defaultdict(list) if found is None else found
    first = {} if first is None else first
    for message in read(bootstrap, RESULTS, first):
        headers = dict(message.headers() or ())
        _, partition, offset = SOURCE.unpack(headers["isos-source"])
        found[partition, offset].append(STATUSES[headers["isos-status"]])
        first[message.partition()] = message.offset() + 1
    return found


def wait_for_results(bootstrap, places, seconds=60):
    """Statuses by place once every one of ``places`` has a result."""
    places, found, first = set(places), collections.defaultdict(list), {}
    wait_until(
        lambda: statuses(bootstrap, found, first).keys() >= places, seconds, f"results of {len(places)} requests"
    )
    return found


def letters_of(bootstrap, offset, partition=0):
    """Whole letters of one request."""
    found = [parse_letter(message.value(), message.headers() or []) for message in read(bootstrap, DLQ)]
    return [
        each for each in found if each is not None and (each.where.partition, each.where.offset) == (partition, offset)
    ]


def request_value(schema_id, extra=b"", **fields):
    row = np.linspace(-1, 1, 256, dtype=np.float32)[np.newaxis]
    made = InferenceRequest(unique("r"), MODEL, (to_tensor("x", row),), timeout_ms=PATIENCE_MS, **fields)
    return b"\0" + schema_id.to_bytes(4, "big") + encode_body("InferenceRequest", made) + extra


def show(stack, letter_id):
    return stack.isos_json("dlq", "show", letter_id)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"\xfe", b"\xffnot avro", [("trace", b"\x01"), ("trace", b"2"), ("isos-code", b"theirs"), ("none", None)]),
        (None, None, []),
        (b"k", b"", None),
    ],
    ids=["headers", "nothing at all", "empty value"],
)
def test_a_letter_is_the_whole_record_and_a_redrive_sends_exactly_that(stack, bootstrap, key, value, headers):
    (offset,) = send(bootstrap, (key, value, headers))
    wait_for_results(bootstrap, [(0, offset)])
    (letter,) = letters_of(bootstrap, offset)
    assert (letter.key, letter.value, list(letter.headers)) == (key, value, headers or [])
    assert (
        letter.topic_id == asyncio.run(topic_ids(Connection(bootstrap), ["inference.requests"]))["inference.requests"]
    )
    assert (letter.stage, letter.code) == ("edge", "null_value" if value is None else "garbage")
    assert abs(letter.timestamp_ms - time.time() * 1000) < 120_000
    assert letter.causes.startswith(letter.exception)

    name = f"inference.requests/0/{offset}"
    told = show(stack, name)
    assert told["code"] == letter.code
    assert told["what_to_do"]
    done = stack.isos_json("dlq", "redrive", name)
    (row,) = done["letters"]
    place, topic_id = row["sent_as"].split("@")
    assert (done["sent"], topic_id) == (1, letter.topic_id.hex())
    again = int(place.rpartition("/")[2])
    assert again > offset
    (copy,) = [each for each in read(bootstrap, REQUESTS, {0: again, 1: 1 << 60}) if each.offset() == again]
    assert (copy.key(), copy.value()) == (key, value)
    assert copy.headers() == [*(headers or []), (REDRIVEN_FROM, f"{REQUESTS}/0/{offset}@{topic_id}".encode())]
    found = wait_for_results(bootstrap, [(0, offset), (0, again)])
    assert found[0, offset] == found[0, again] == ["ERROR"]

    assert show(stack, name)["redriven_to"] == [row["sent_as"]]
    refused = stack.isos("dlq", "redrive", name, check=False)
    assert refused.returncode == 4
    assert "--again" in refused.stderr
    assert stack.isos_json("dlq", "redrive", name, "--again")["sent"] == 1
    assert len(show(stack, name)["redriven_to"]) == 2


def test_a_record_at_the_size_limit_is_kept_whole(bootstrap):
    value = b"\xff" * (MAX_RECORD_BYTES + 32 * 1024)
    (offset,) = send(bootstrap, (b"k" * 1000, value, [("h" * 100, b"v" * 20_000)]))
    wait_for_results(bootstrap, [(0, offset)])
    (letter,) = letters_of(bootstrap, offset)
    assert letter.value == value
    assert (letter.key, letter.headers) == (b"k" * 1000, (("h" * 100, b"v" * 20_000),))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_a_client_is_read(bootstrap, schema_id, codec):
    (offset,) = send(bootstrap, (b"k", request_value(schema_id), None), **{"compression.type": codec})
    assert wait_for_results(bootstrap, [(0, offset)])[0, offset] == ["OK"]


def test_a_record_that_unpacks_to_more_than_a_topic_takes_is_refused_by_the_broker(bootstrap):
    (error,) = send(bootstrap, (b"k", bytes(40_000_000), None), **{"compression.type": "zstd"})
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_a_record_that_no_topic_takes_is_named_by_its_digest(stack, bootstrap):
    """A topic that somebody else made may keep batches packed; then a letter cannot hold what comes out."""
    alter(bootstrap, REQUESTS, "compression.type", "producer")
    try:
        (offset,) = send(bootstrap, (b"k", bytes(40_000_000), None), **{"compression.type": "gzip"})
    finally:
        alter(bootstrap, REQUESTS, "compression.type", "uncompressed")
    assert wait_for_results(bootstrap, [(0, offset)])[0, offset] == ["ERROR"]
    told = show(stack, f"inference.requests/0/{offset}")
    assert told["value_omitted"].startswith("40000000 bytes, sha256 ")
    refused = stack.isos("dlq", "redrive", f"inference.requests/0/{offset}", check=False)
    assert refused.returncode == 4
    assert "too large to be kept" in refused.stderr


def test_an_unknown_letter_and_an_empty_choice(stack):
    missing = stack.isos("dlq", "show", "inference.requests/0/999999", check=False)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "isos dlq list" in missing.stderr
    none = stack.isos_json("dlq", "redrive", "--code", "garbage", "--until", "2020-01-01")
    assert none == {"sent": 0, "would_send": 0, "not_sent": 0, "letters": []}


def test_a_killed_edge_loses_no_letter(stack, bootstrap):
    """A letter stands before its result; an edge that dies between them writes it again, and it is listed once.

    In front of what makes the edge fail again and again: its supervisor would wait longer before each start.
    """
    poison = Poison(bootstrap, GARBAGE, rate=200)
    poison.start()
    for _ in range(2):
        heard = len(poison.places)
        wait_until(lambda heard=heard: len(poison.places) >= heard + 200, 60, "200 acknowledged records")
        stack.wait_restarted("edge-0", stack.kill("edge-0"))
    poison.finish()
    found = wait_for_results(bootstrap, poison.places, 90)
    assert {tuple(found[place]) for place in poison.places} == {("ERROR",)}
    listed = stack.isos_json("dlq", "list", "--limit", "0")
    codes = {each["id"]: each["code"] for each in listed}
    assert len(codes) == len(listed)
    expected = {f"inference.requests/{p}/{o}": kind for (p, o), kind in poison.places.items()}
    assert expected.items() <= codes.items()


def alter(bootstrap, topic, setting, value):
    """Set one setting of a topic; the broker takes it at once."""
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)


def committed(bootstrap, partition):
    topic_id = asyncio.run(topic_ids(Connection(bootstrap), ["inference.requests"]))["inference.requests"]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": edge_group(topic_id)})
    place = consumer.committed([TopicPartition(REQUESTS, partition)], timeout=10)[0]
    consumer.close()
    return place.offset


def shrink(bootstrap, max_bytes=300):
    """Let the topic of letters take none at all, or small ones; gives what the doctor says of it."""
    alter(bootstrap, DLQ, "max.message.bytes", str(max_bytes))
    return f"{DLQ} has max.message.bytes = {max_bytes}"


def delete(bootstrap):
    """Delete the topic of letters."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([DLQ])[DLQ].result(20)
    wait_until(lambda: DLQ not in admin.list_topics(timeout=10).topics, 20, "the end of the topic")
    return "Topics are missing: inference.dlq."


def nothing_passes(stack, bootstrap, schema_id, damage):
    """The process starts anew until it can; the doctor says what is wrong and `--repair` puts it right."""
    (first,) = send(bootstrap, (b"first", request_value(schema_id), None), partition=1)
    wait_until(lambda: committed(bootstrap, 1) == first + 1, 60, "the commit of the request before")
    restarts = stack.processes()["edge-0"]["restarts"]
    complaint = damage(bootstrap)
    try:
        garbage, good = send(
            bootstrap, (b"big", b"\xff" * 50_000, [("a", b"1")]), (b"good", request_value(schema_id), None), partition=1
        )
        wait_until(lambda: stack.processes()["edge-0"]["restarts"] >= restarts + 2, 90, "two restarts of the edge")
        assert f"the dead letter of {REQUESTS}/1/{garbage}" in stack.log("edge-0")
        assert "`isos doctor` checks the topic" in stack.log("edge-0")
        found = statuses(bootstrap)
        assert (1, garbage) not in found
        assert (1, good) not in found
        assert committed(bootstrap, 1) == garbage
        told = stack.isos_json("doctor", check=False)
        assert complaint in str([each for each in told["checks"] if each["name"] == "topics"])
    finally:
        stack.isos("topics", "provision", "--repair")
    found = wait_for_results(bootstrap, [(1, garbage), (1, good)], 90)
    assert (found[1, garbage], found[1, good]) == (["ERROR"], ["OK"])
    (letter,) = letters_of(bootstrap, garbage, 1)
    assert (letter.key, letter.headers) == (b"big", (("a", b"1"),))
    stack.isos("ledger", "--drained")


def test_nothing_passes_a_letter_that_its_topic_does_not_take(stack, bootstrap, schema_id):
    nothing_passes(stack, bootstrap, schema_id, shrink)


@pytest.mark.parametrize("max_bytes", [20_000, 1_000])
def test_a_letter_that_its_topic_refuses_stands_without_its_record(stack, bootstrap, schema_id, max_bytes):
    """It would be refused for ever: no process starts anew for it, and what comes behind it is answered."""
    restarts = stack.processes()["edge-0"]["restarts"]
    complaint = shrink(bootstrap, max_bytes)
    try:
        garbage, good = send(
            bootstrap, (b"big", b"\xff" * 50_000, [("a", b"1")]), (b"good", request_value(schema_id), None)
        )
        found = wait_for_results(bootstrap, [(0, garbage), (0, good)])
        assert (found[0, garbage], found[0, good]) == (["ERROR"], ["OK"])
        assert stack.processes()["edge-0"]["restarts"] == restarts
        told = stack.isos_json("doctor", check=False)
        assert complaint in str([each for each in told["checks"] if each["name"] == "topics"])
    finally:
        stack.isos("topics", "provision", "--repair")
    name = f"inference.requests/0/{garbage}"
    told = show(stack, name)
    assert (told["code"], told["value_omitted"][:19]) == ("garbage", "50000 bytes, sha256")
    assert "refused: [Error 10]" in told["value_omitted"]
    refused = stack.isos("dlq", "redrive", name, check=False)
    assert refused.returncode == 4
    assert "refused or too large to be kept" in refused.stderr


def next_schema(bootstrap):
    """The requests schema with one more field, under the id that it will get; not registered yet."""
    log = asyncio.run(read_schema_log(Connection(bootstrap)))
    subject = subject_of("inference.requests")
    newest = log.of(subject)[-1]
    text = json.loads(newest.text)
    field = {"name": "note", "type": ["null", "string"], "default": None, "doc": "Free text."}
    text["fields"].append(field)
    written = json.dumps(text)
    return SchemaVersion(subject, newest.version + 1, log.next_id, written, normalise(written))


def register(bootstrap, entry):
    async def write():
        writer = await FencedWriter.claim(Connection(bootstrap), SCHEMAS_TOPIC, 0)
        await writer.send(*schema_record(entry))
        await writer.stop()

    asyncio.run(write())


def test_two_percent_dead_letters_under_load_redriven_afterwards(stack, bootstrap, schema_id, tmp_path):
    """Each old and each new coordinate has exactly one result; what was unknown and is registered by then ends OK."""
    later = next_schema(bootstrap)
    newer = template(Load(MODEL), later.schema_id, timeout_ms=PATIENCE_MS)
    row = np.linspace(-1, 1, 256, dtype=np.float32).tobytes()
    kinds = [
        ("unknown_schema", lambda number: newer.value(f"later-{number}", row) + b"\x00"),
        ("garbage", lambda number: b"\xff" + str(number).encode()),
        ("unknown_schema", lambda number: newer.value(f"later-{number}", row) + b"\x02\x04ok"),
        ("null_value", lambda number: None),
    ]
    poison = Poison(bootstrap, kinds, rate=20)
    with LoadRun(tmp_path, bootstrap, schema_id, [Load(MODEL)], 980, timeout_ms=PATIENCE_MS, seconds=10.0) as load:
        load.go()
        poison.start()
        record = load.wait()
        poison.finish()
    assert record.complete
    assert record.summary["ok"] == record.summary["sent"] > 0
    assert len(poison.places) > 0.015 * record.summary["sent"]
    found = wait_for_results(bootstrap, poison.places)
    assert {tuple(found[place]) for place in poison.places} == {("ERROR",)}
    listed = stack.isos_json("dlq", "list", "--limit", "0", "--since", "10m")
    codes = {each["id"]: each["code"] for each in listed}
    expected = {f"inference.requests/{p}/{o}": kind for (p, o), kind in poison.places.items()}
    assert expected.items() <= codes.items()

    register(bootstrap, later)
    readable = next(name for name, kind in expected.items() if kind == "unknown_schema")
    assert show(stack, readable)["what_to_do"].startswith("Its value can be read by now")
    first = dict.fromkeys((0, 1), min(offset for _, offset in poison.places))
    dry = stack.isos_json("dlq", "redrive", "--code", "unknown_schema", "--dry-run")
    assert (dry["sent"], dry["would_send"]) == (0, sum(kind == "unknown_schema" for kind in expected.values()))
    names = sorted(expected)
    done = stack.isos_json("dlq", "redrive", *names)
    assert (done["sent"], done["not_sent"]) == (len(names), 0)

    copies = {}
    for message in read(bootstrap, REQUESTS, first):
        origin = dict(message.headers() or ()).get(REDRIVEN_FROM)
        if origin is not None:
            topic, partition, offset = origin.decode().partition("@")[0].split("/")
            assert (topic, int(partition)) == (REQUESTS, message.partition())
            if (place := (int(partition), int(offset))) in poison.places:
                assert place not in copies
                copies[place] = (message.partition(), message.offset())
    assert copies.keys() == poison.places.keys()
    found = wait_for_results(bootstrap, copies.values(), 90)
    wanted = {"unknown_schema": ["OK"], "garbage": ["ERROR"], "null_value": ["ERROR"]}
    for old, new in copies.items():
        assert found[old] == ["ERROR"]
        assert found[new] == wanted[poison.places[old]], (old, new)
    ledger = stack.isos_json("ledger", "--drained")
    assert (ledger["missing"], ledger["duplicated"], ledger["in_flight"], ledger["reaped"]) == (0, 0, 0, 0)
    left = stack.isos_json("dlq", "redrive", "--all")
    assert {
        each["note"].startswith("it was sent again as")
        for each in left["letters"]
        if each["id"].partition("@")[0] in expected
    } == {True}


def test_nothing_passes_a_letter_without_a_topic(stack, bootstrap, schema_id):
    """Long after the other one, or the supervisor would wait ten seconds before each start."""
    nothing_passes(stack, bootstrap, schema_id, delete)
