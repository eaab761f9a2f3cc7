"""The registry against a real schema log, and a stranger's client that uses it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiokafka import TopicPartition

from infra import registry
from schemas.request import InferenceRequest, Tensor
from schemas.result import Source
from streams.codec import Codec, subject_of
from streams.connection import Connection, bounded, consumer, producer, start, stop_quietly
from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER
from streams.provision import Provisioned, provision
from streams.schema_log import SchemaVersion, read_schema_ids, schema_record
from streams.topics import SCHEMAS_TOPIC, full_name
from tests.support.broker import Servers, free_ports, unique
from tests.support.samples import RESULT

FOREIGN = Path(__file__).parents[1] / "support" / "foreign_client.py"
REQUESTS, RESULTS = full_name("inference.requests"), full_name("inference.results")


@pytest.fixture
async def provisioned(servers: Servers) -> Provisioned:
    settings = servers.settings
    return await provision(Connection(servers.bootstrap), partitions=settings.partitions, lanes=settings.num_lanes)


@pytest.fixture
async def url(bootstrap: str, provisioned: Provisioned) -> AsyncIterator[str]:
    ready, (port,) = asyncio.Event(), free_ports(1)
    task = asyncio.create_task(registry.run(Connection(bootstrap), port, ready.set))
    await bounded(ready.wait(), 20, "starting the registry")
    yield f"http://127.0.0.1:{port}"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def read_one(bootstrap: str, topic: str, partition: int, offset: int) -> bytes:
    client = consumer(Connection(bootstrap))
    await start(client, "reading")
    try:
        at = TopicPartition(topic, partition)
        client.assign([at])
        client.seek(at, offset)
        record = await bounded(client.getone(at), 10, "reading the request")
        assert record.offset == offset
        return bytes(record.value)
    finally:
        await stop_quietly(client)


async def write(bootstrap: str, topic: str, partition: int, key: bytes, value: bytes, headers: list[object]) -> None:
    client = producer(Connection(bootstrap))
    await start(client, "writing")
    try:
        sent = client.send_and_wait(topic, value, key=key, partition=partition, headers=headers)
        await bounded(sent, 10, "writing")
    finally:
        await stop_quietly(client)


async def test_a_process_without_our_code_sends_and_reads(
    bootstrap: str, provisioned: Provisioned, url: str, tmp_path: Path
) -> None:
    request_id = unique("foreign")
    script = shutil.copy(FOREIGN, tmp_path / "client.py")
    arguments = ("-I", script, bootstrap, url, request_id)
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments), cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert client.stdout is not None
    try:
        line = await bounded(client.stdout.readline(), 30, "the foreign client's request")
        assert line, (await client.communicate())[1].decode()
        at = json.loads(line)

        codec = Codec(await read_schema_ids(Connection(bootstrap)))
        value = await read_one(bootstrap, REQUESTS, at["partition"], at["offset"])
        tensor = Tensor("x", "UINT8", (1, 4), b"\x01\x02\x03\x04")
        assert codec.decode("inference.requests", value) == InferenceRequest(request_id, "digits", (tensor,))

        topic_id = provisioned.topic_ids["inference.requests"]
        source = Source(topic_id, at["partition"], at["offset"])
        result = dataclasses.replace(RESULT, request_id=request_id, source=source)
        body = codec.encode("inference.results", result)
        # As the Validator writes them, so that the ledger of this broker stays whole.
        coordinate = SOURCE.pack(topic_id, at["partition"], at["offset"])
        headers: list[object] = [(SOURCE_HEADER, coordinate), (STATUS_HEADER, b"R")]
        await write(bootstrap, RESULTS, at["partition"], request_id.encode(), body, headers)
        out, err = await bounded(client.communicate(), 40, "the foreign client's result")
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert client.returncode == 0, err.decode()
    seen = json.loads(out)
    assert seen["source"] == {"topic_id": topic_id.hex(), "partition": at["partition"], "offset": at["offset"]}
    assert (seen["status"], seen["error"]["code"], seen["timing"]["completed_us"]) == (
        "REJECTED",
        "quota_exceeded",
        RESULT.timing.completed_us,
    )
    assert seen["outputs"][0]["data"] == RESULT.outputs[0].data.hex()


async def test_a_version_written_later_is_served_and_read_with(bootstrap: str, url: str) -> None:
    subject, name = subject_of("control.load"), unique("later").replace("-", "_")
    text = json.dumps({"type": "record", "name": name, "fields": [{"name": "a", "type": "long"}]})
    known = await read_schema_ids(Connection(bootstrap))
    schema_id = max(known.by_id) + 1000
    key, value = schema_record(SchemaVersion(f"{name}-value", 1, schema_id, text, text))
    await write(bootstrap, SCHEMAS_TOPIC, 0, key, value, [])
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(10):
            while True:
                async with session.get(f"{url}/schemas/ids/{schema_id}") as reply:
                    if reply.status == 200:
                        assert json.loads((await reply.json(content_type=None))["schema"])["name"] == name
                        break
                await asyncio.sleep(0.02)
        async with session.get(f"{url}/subjects/{subject}/versions") as reply:
            assert await reply.json(content_type=None) == [1]
    ids = await read_schema_ids(Connection(bootstrap))
    assert ids.by_id[schema_id].subjects == {f"{name}-value"}
    assert ids.write_ids == known.write_ids
