"""Bad input on a whole stack: one result each with its own code, good traffic undisturbed, no process restarted."""

import asyncio
import contextlib
import dataclasses

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.client.client import Client, RequestRejectedError, to_tensor
from streams.codec import subject_of
from streams.connection import Connection
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from tests.support.broker import unique
from tests.support.load import Load, LoadRun
from tests.support.served import MODEL

ROW = np.linspace(-1, 1, 256, dtype=np.float32)[np.newaxis]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def stack(whole_stack):
    return whole_stack


@pytest.fixture
def schema_id(stack):
    ids = asyncio.run(read_schema_ids(Connection(stack.settings.bootstrap)))
    return ids.write_ids[subject_of("inference.requests")]


@contextlib.asynccontextmanager
async def clients(stack):
    async with Client(stack.settings.bootstrap) as client:
        yield client


def request(**fields):
    fields = {"request_id": unique("r"), "model": MODEL, "inputs": (to_tensor("x", ROW),), **fields}
    return InferenceRequest(**fields)


def tensor(**fields):
    return dataclasses.replace(to_tensor("x", ROW), **fields)


def not_finite(value):
    row = ROW.copy()
    row[0, 7] = value
    return (to_tensor("x", row),)


TOO_LARGE = b"\0" * 11_000_000
NO_DATA = tensor(data=b"")

BAD_REQUESTS = {
    "unknown model": ("REJECTED", "unknown_model", {"model": "nobody-registered-this"}),
    "unknown version": ("REJECTED", "unknown_version", {"version": "v9.9.9"}),
    "batch of 129": ("REJECTED", "batch_too_large", {"inputs": (to_tensor("x", np.repeat(ROW, 129, 0)),)}),
    "11 MB": ("REJECTED", "payload_too_large", {"inputs": (tensor(shape=(1, 11_000_000), data=TOO_LARGE),)}),
    "wrong datatype": ("REJECTED", "wrong_datatype", {"inputs": (to_tensor("x", ROW.astype(np.float64)),)}),
    "wrong shape": ("REJECTED", "wrong_shape", {"inputs": (to_tensor("x", ROW[:, :255].copy()),)}),
    "bytes that do not fit the shape": ("REJECTED", "wrong_shape", {"inputs": (tensor(data=b"\0" * 1020),)}),
    "wrong input name": ("REJECTED", "wrong_inputs", {"inputs": (to_tensor("y", ROW),)}),
    "no inputs": ("REJECTED", "wrong_inputs", {"inputs": ()}),
    "NaN": ("REJECTED", "not_finite", {"inputs": not_finite(np.nan)}),
    "infinity": ("REJECTED", "not_finite", {"inputs": not_finite(np.inf)}),
    "expired deadline": ("EXPIRED", "deadline_exceeded", {"timeout_ms": 1}),
    "timeout beyond the maximum": ("REJECTED", "invalid_timeout", {"timeout_ms": 10_000_000}),
    "long request id": ("REJECTED", "invalid_request_id", {"request_id": "i" * 65}),
    "model name": ("REJECTED", "invalid_model_name", {"model": "no spaces"}),
    "version form": ("REJECTED", "invalid_version", {"version": "latest"}),
    "tenant": ("REJECTED", "invalid_tenant", {"tenant": "a b"}),
    "priority": ("REJECTED", "invalid_priority", {"priority": 10}),
    "data beside a blob": ("REJECTED", "invalid_blob", {"blob": BlobRef("0" * 64, 1024)}),
    "blob of another size": ("REJECTED", "invalid_blob", {"inputs": (NO_DATA,), "blob": BlobRef("0" * 64, 1)}),
    "blob name": ("REJECTED", "invalid_blob", {"inputs": (NO_DATA,), "blob": BlobRef("0" * 63 + "G", 1024)}),
    "blob that nobody stored": ("ERROR", "blob_missing", {"inputs": (NO_DATA,), "blob": BlobRef("0" * 64, 1024)}),
    "unusable datatype": ("REJECTED", "wrong_datatype", {"inputs": (Tensor("x", "COMPLEX", (1, 256), b"\0" * 1024),)}),
}

UNDECODABLE = {
    "garbage bytes": ("garbage", lambda schema_id: b"\xff\xfenot avro"),
    "truncated body": ("garbage", lambda schema_id: b"\0" + schema_id.to_bytes(4, "big") + b"\x06ab"),
    "null value": ("null_value", lambda schema_id: None),
    "wrong schema id": ("unknown_schema", lambda schema_id: b"\0\x7f\xff\xff\xff\x02a"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_bad_request_has_one_result_with_its_code(stack, name):
    status, code, fields = BAD_REQUESTS[name]
    sent = request(**fields)
    async with clients(stack) as client:
        result = (await client.submit(sent, wait_s=30)).result
    assert (result.status, result.error.code) == (status, code)
    # An id that is itself refused is not repeated; the record's place stands in for it.
    place = f"{result.source.partition}-{result.source.offset}"
    assert result.request_id == (place if code == "invalid_request_id" else sent.request_id)
    assert result.outputs == ()
    assert result.error.message


@pytest.mark.parametrize("name", UNDECODABLE)
@pytest.mark.parametrize("key", [b"my-own-id", b"\xff\xfe", b"k" * 65, None], ids=["key", "not text", "long", "none"])
async def test_an_undecodable_record_has_a_result_and_a_dead_letter(stack, schema_id, name, key):
    code, value_of = UNDECODABLE[name]
    value = value_of(schema_id)
    async with clients(stack) as client:
        result = (await client.exchange(value, key, wait_s=30)).result
    place = f"{result.source.partition}-{result.source.offset}"
    assert (result.status, result.error.code) == ("ERROR", code)
    assert result.request_id == (key.decode() if key == b"my-own-id" else place)
    (letter,) = dead_letters(stack.settings.bootstrap, result.source)
    assert dict(letter.headers())["isos-code"] == code.encode()
    assert letter.value() == value


def dead_letters(bootstrap, source):
    """Dead letters whose source is the request's coordinate."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("dlq")})
    place = TopicPartition(full_name("inference.dlq"), 0, 0)
    end = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign([place])
    found = []
    while consumer.position([place])[0].offset < end:
        message = consumer.poll(5)
        if message is not None and source_of(message) == (source.partition, source.offset):
            found.append(message)
    consumer.close()
    return found


def source_of(message):
    headers = dict(message.headers())
    assert headers["__streams.errors.topic"].decode() == full_name("inference.requests")
    return int(headers["__streams.errors.partition"]), int(headers["__streams.errors.offset"])


async def test_a_refusal_is_an_error_with_its_code_for_the_caller(stack):
    async with clients(stack) as client:
        with pytest.raises(RequestRejectedError) as raised:
            await client.infer("nobody-registered-this", {"x": ROW})
    assert raised.value.code == "unknown_model"


def test_good_traffic_beside_bad_is_undisturbed_and_nothing_restarts(stack, schema_id, tmp_path):
    before = identities(stack)
    bootstrap = stack.settings.bootstrap
    with LoadRun(tmp_path, bootstrap, schema_id, [Load(MODEL)], 200, timeout_ms=20_000) as load:
        load.go()
        load.wait_for_flow()
        statuses = asyncio.run(send_all_bad(bootstrap, schema_id, rounds=3))
        record = load.stop()
    assert len(statuses) == 3 * (len(BAD_REQUESTS) + len(UNDECODABLE))
    assert "OK" not in statuses
    assert record.complete
    assert record.summary["ok"] == record.summary["sent"] > 0
    assert (record.summary["missing"], record.summary["duplicated"]) == (0, 0)
    assert identities(stack) == before

    ledger = stack.isos_json("ledger", "--drained")
    assert (ledger["missing"], ledger["duplicated"], ledger["in_flight"], ledger["reaped"]) == (0, 0, 0, 0)


def identities(stack):
    """Pid, restarts and start of every process, and the supervisor's own word that it runs."""
    status = stack.isos_json("status")
    assert {row["phase"] for row in status["processes"]} == {"ready"}
    pids = {row["name"]: (row["pid"], row["restarts"]) for row in status["processes"]}
    started = {name: state["started_us"] for name, state in stack.processes().items()}
    return {name: (*pids[name], started[name]) for name in pids}


async def send_all_bad(bootstrap, schema_id, *, rounds):
    async with Client(bootstrap) as client:
        waiting = []
        for _ in range(rounds):
            waiting += [client.submit(request(**fields), wait_s=60) for _, _, fields in BAD_REQUESTS.values()]
            waiting += [client.exchange(value_of(schema_id), wait_s=60) for _, value_of in UNDECODABLE.values()]
        return [answer.result.status for answer in await asyncio.gather(*waiting)]
