"""The registry against a real schema log, and a stranger's client that uses it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from infra import registry
from schemas.request import InferenceRequest, Tensor
from schemas.result import Source
from streams.codec import SCHEMA_TEXTS, Codec, subject_of
from streams.connection import Connection, bounded, consumer, producer, start, stop_quietly
from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER
from streams.provision import Provisioned, provision, register_schemas
from streams.registry.schema_log import SchemaVersion, read_schema_ids, read_schema_log, schema_record
from streams.registry.schema_text import normalise
from streams.topics import SCHEMAS_TOPIC, full_name
from tests.support.broker import Servers, free_ports, unique
from tests.support.samples import RESULT
from tests.support.schemas import record

FOREIGN = Path(__file__).parents[1] / "support" / "foreign_client.py"
REQUESTS, RESULTS = full_name("inference.requests"), full_name("inference.results")


@pytest.fixture
async def provisioned(servers: Servers) -> Provisioned:
    settings = servers.settings
    return await provision(Connection(servers.bootstrap), partitions=settings.partitions, lanes=settings.num_lanes)


@contextlib.asynccontextmanager
async def serve(bootstrap: str) -> AsyncIterator[str]:
    """A registry in this process; gives its address."""
    ready, (port,) = asyncio.Event(), free_ports(1)
    task = asyncio.create_task(registry.run(Connection(bootstrap), port, ready.set))
    try:
        await bounded(ready.wait(), 20, "starting the registry")
        yield f"http://127.0.0.1:{port}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def url(bootstrap: str, provisioned: Provisioned) -> AsyncIterator[str]:
    async with serve(bootstrap) as address:
        yield address


async def ask(method: str, url: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON of one request."""
    data = None if body is None else json.dumps(body)
    async with aiohttp.ClientSession() as session, session.request(method, url, data=data) as reply:
        return reply.status, await reply.json(content_type=None)


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


async def test_a_serializer_that_registers_by_itself(bootstrap: str, url: str) -> None:
    """confluent-kafka's, for a subject of its own and, with one more field, for ours."""
    with SchemaRegistryClient({"url": url}) as client, SchemaRegistryClient({"url": url}) as reader:
        await serialize_with(bootstrap, client, reader)


async def serialize_with(bootstrap: str, client: Any, reader: Any) -> None:
    conf = {"auto.register.schemas": True, "normalize.schemas": True}
    topic = unique("strangers")
    serialize = AvroSerializer(client, record(("a", "long"), name="Own"), conf=conf)
    value = await asyncio.to_thread(serialize, {"a": 7}, SerializationContext(topic, MessageField.VALUE))
    assert await asyncio.to_thread(
        AvroDeserializer(reader), value, SerializationContext(topic, MessageField.VALUE)
    ) == {"a": 7}

    schema = json.loads(SCHEMA_TEXTS["InferenceRequest"])
    schema["fields"].append({"name": unique("extra").replace("-", "_"), "type": "string", "default": ""})
    serialize = AvroSerializer(client, json.dumps(schema), conf=conf)
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1, 1], "data": b"\x01"}
    request = {"request_id": "r", "model": "digits", "inputs": [tensor]}
    value = await asyncio.to_thread(serialize, request, SerializationContext(REQUESTS, MessageField.VALUE))
    codec = Codec(await read_schema_ids(Connection(bootstrap)))
    assert codec.decode("inference.requests", value) == InferenceRequest(
        "r", "digits", (Tensor("x", "UINT8", (1, 1), b"\x01"),)
    )

    del schema["fields"][-1]["default"]
    serialize = AvroSerializer(client, json.dumps(schema), conf=conf)
    with pytest.raises(SchemaRegistryError) as caught:
        await asyncio.to_thread(serialize, request, SerializationContext(REQUESTS, MessageField.VALUE))
    assert (caught.value.http_status_code, caught.value.error_code) == (409, 409)


async def test_two_registries_and_provisioning_write_at_once_and_no_id_collides(bootstrap: str, url: str) -> None:
    async with serve(bootstrap) as other:
        name = unique("shared")
        texts = [record((f"f{n}", "long", 0), name=f"{name}_{n}".replace("-", "_")) for n in range(24)]

        async def register(n: int, at: str) -> tuple[int, int]:
            status, reply = await ask("POST", f"{at}/subjects/{name}-{n % 12}/versions", {"schema": texts[n]})
            assert status in (200, 409), reply  # of two first versions of a subject the slower one may not fit
            return n, reply.get("id", 0)

        given = await asyncio.gather(
            *(register(n, (url, other)[n % 2]) for n in range(24)),
            *(register(n, (other, url)[n % 2]) for n in range(24)),
            register_schemas(Connection(bootstrap)),
        )
        pairs = [pair for pair in given if isinstance(pair[1], int) and pair[1]]
        by_text: dict[int, set[int]] = {}
        for n, schema_id in pairs:
            by_text.setdefault(n, set()).add(schema_id)
        assert all(len(ids) == 1 for ids in by_text.values())  # one schema, one id, whichever registry gave it
        ids = [next(iter(ids)) for ids in by_text.values()]
        assert len(set(ids)) == len(ids) >= 12
        log = await read_schema_log(Connection(bootstrap))
        for n, (schema_id,) in ((n, tuple(ids)) for n, ids in by_text.items()):
            assert {entry.normal for entry in log.by_id(schema_id)} == {normalise(texts[n])}
            assert await ask("GET", f"{url}/schemas/ids/{schema_id}") == await ask(
                "GET", f"{other}/schemas/ids/{schema_id}"
            )


async def test_a_registration_is_read_back_at_once_and_survives(bootstrap: str, url: str) -> None:
    name = unique("kept")
    _, first = await ask("POST", f"{url}/subjects/{name}/versions", {"schema": record(("a", "long"))})
    assert (await ask("GET", f"{url}/schemas/ids/{first['id']}"))[0] == 200
    assert (await ask("PUT", f"{url}/config/{name}", {"compatibility": "NONE"}))[0] == 200
    _, second = await ask("POST", f"{url}/subjects/{name}/versions", {"schema": record(("b", "string"), name="X")})
    assert await ask("DELETE", f"{url}/subjects/{name}/versions/1") == (200, 1)
    assert await ask("DELETE", f"{url}/subjects/{name}/versions/1?permanent=true") == (200, 1)
    async with serve(bootstrap) as successor:
        assert await ask("GET", f"{successor}/subjects/{name}/versions") == (200, [2])
        assert await ask("GET", f"{successor}/config/{name}") == (200, {"compatibilityLevel": "NONE"})
        at = f"{successor}/subjects/{name}/versions"
        _, again = await ask("POST", at, {"schema": record(("b", "string"), name="X")})
        assert again["id"] == second["id"]
        _, later = await ask("POST", at, {"schema": record(("c", "string"), name="Y")})
        assert later["id"] > second["id"] > first["id"]


async def test_every_call_of_a_client_library(url: str) -> None:
    """confluent-kafka's client: what it sends is understood, what comes back is what it parses."""
    with SchemaRegistryClient({"url": url}) as client:
        await asyncio.to_thread(use_client, client, unique("library"))


def use_client(client: Any, name: str) -> None:
    base, wider = (
        Schema(record(("a", "long"), name="L"), "AVRO"),
        Schema(record(("a", "long"), ("b", "long", 0), name="L")),
    )
    needs = Schema(record(("a", "long"), ("c", "long"), name="L"), "AVRO")
    first = client.register_schema(name, base, normalize_schemas=True)
    registered = client.register_schema_full_response(name, wider)
    assert (registered.version, registered.schema_id) == (2, first + 1)
    assert client.get_schema_by_guid(registered.guid).schema_str == wider.schema_str
    assert client.get_schema(first).schema_str == base.schema_str
    assert client.get_subjects_by_schema_id(first) == [name]
    assert [(each.subject, each.version) for each in client.get_schema_versions(first)] == [(name, 1)]
    assert client.lookup_schema(name, base).version == 1
    assert client.get_latest_version(name).schema_id == first + 1
    assert client.get_version(name, 1).schema_id == first
    assert client.get_versions(name) == [1, 2]
    assert name in client.get_subjects()
    assert client.get_schema_types() == ["AVRO"]
    assert client.get_contexts() == ["."]
    assert client.get_referenced_by(name, 1) == []
    assert client.test_compatibility(name, wider)
    assert not client.test_compatibility(name, needs)
    assert not client.test_compatibility_all_versions(name, needs)
    assert client.get_compatibility() == "BACKWARD"
    client.set_compatibility(name, "none")
    assert client.get_compatibility(name) == "NONE"
    assert client.test_compatibility(name, needs)
    client.delete_config(name)
    client.update_mode(name, "READONLY")
    with pytest.raises(SchemaRegistryError) as caught:
        client.register_schema(name, Schema(record(("a", "long"), ("d", "long", 0), name="L"), "AVRO"))
    assert caught.value.error_code == 42205
    assert client.get_mode(name) == "READONLY"
    client.delete_mode(name)
    assert client.get_global_mode() == "READWRITE"
    assert client.delete_version(name, 2) == 2
    assert client.delete_subject(name) == [1]
    assert client.delete_subject(name, permanent=True) == [1, 2]
    with pytest.raises(SchemaRegistryError) as caught:
        client.get_versions(name)
    assert (caught.value.http_status_code, caught.value.error_code) == (404, 40401)
