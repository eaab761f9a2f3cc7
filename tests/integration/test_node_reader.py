"""A consumer in Node.js, with packages of its registry and our registry's address, reads what the stack answered."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from isos import Client, Request
from schemas.result import InferenceResult
from streams.codec import Codec
from streams.connection import Connection
from streams.convert import to_dict
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from tests.support import node
from tests.support.broker import unique
from tests.support.served import BYTES_MODEL, MODEL
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)
RESULTS = "inference.results"
NUM_OK, NUM_BYTES, NUM_REFUSED = 200, 50, 50


@pytest.fixture(scope="module")
def reader() -> list[str]:
    return ["node", str(node.prepare() / "read_results.mjs")]


def requests(prefix: str) -> list[Request]:
    """Answers with one and with several items, of two models, and refusals; an id with letters of many bytes."""
    rng = np.random.default_rng(7)

    def rows(n: int) -> dict[str, Any]:
        return {"x": rng.standard_normal((1 + n % 5, 256), dtype=np.float32)}

    made = [Request(MODEL, rows(n), request_id=f"{prefix}-ok-{n}-é", priority=n % 10) for n in range(NUM_OK)]
    small = [{"x": rng.integers(0, 255, (2, 4), dtype=np.uint8)} for _ in range(NUM_BYTES)]
    made += [Request(BYTES_MODEL, one, request_id=f"{prefix}-b-{n}") for n, one in enumerate(small)]
    made += [Request("no-such-model", rows(n), request_id=f"{prefix}-no-{n}") for n in range(NUM_REFUSED)]
    return made


def stored(stack: RunningStack, wanted: set[tuple[int, int]], codec: Codec) -> dict[tuple[int, int], dict[str, Any]]:
    """What stands in the log at these places, decoded by our own codec, in the reader's form."""
    consumer = Consumer({"bootstrap.servers": stack.settings.bootstrap, "group.id": unique("stored")})
    topic = full_name(RESULTS)
    found: dict[tuple[int, int], dict[str, Any]] = {}
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in {place[0] for place in wanted}])
        while wanted - found.keys():
            message = consumer.poll(20)
            assert message is not None, "the results were not read again within 20 s"
            assert message.error() is None
            place = message.partition(), message.offset()
            if place in wanted:
                result = to_dict(InferenceResult)(codec.decode(RESULTS, message.value()))
                headers = {name: value.hex() for name, value in message.headers() or ()}
                line = {"key": message.key().decode(), "headers": headers, "result": result}
                found[place] = json.loads(json.dumps(line, default=lambda value: bytes(value).hex()))
    finally:
        consumer.close()
    return found


async def test_node_reads_every_field_of_every_result(whole_stack: RunningStack, reader: list[str]) -> None:
    settings, prefix = whole_stack.settings, unique("node")
    async with Client(settings.bootstrap, partitions=2) as client:
        answers = await client.submit_many(requests(prefix))
    command = [*reader, settings.bootstrap, settings.registry_address, prefix, str(len(answers))]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=90, env={**os.environ, "NODE_ENV": ""}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    read = {(line.pop("partition"), line.pop("offset")): line for line in lines}
    assert len(read) == len(lines) == len(answers)

    codec = Codec(await read_schema_ids(Connection(settings.bootstrap)))
    assert read == stored(whole_stack, set(read), codec)

    by_id = {line["result"]["request_id"]: line["result"] for line in read.values()}
    assert by_id.keys() == {answer.result.request_id for answer in answers}
    for answer in answers:
        seen = by_id[answer.result.request_id]
        outputs = {each["name"]: bytes.fromhex(each["data"]) for each in seen["outputs"]}
        assert outputs == {name: array.tobytes() for name, array in answer.outputs.items()}
    statuses = [line["status"] for line in by_id.values()]
    assert (statuses.count("OK"), statuses.count("REJECTED")) == (NUM_OK + NUM_BYTES, NUM_REFUSED)
    assert {line["headers"]["isos-status"] for line in read.values()} == {b"O".hex(), b"R".hex()}


async def test_node_says_what_is_wrong(reader: list[str], whole_stack: RunningStack) -> None:
    settings = whole_stack.settings
    async with Client(settings.bootstrap) as client:
        await client.infer(MODEL, {"x": np.zeros((1, 256), np.float32)})
    command = [*reader, settings.bootstrap, "http://127.0.0.1:1", "any", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.strip()
