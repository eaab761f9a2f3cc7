"""A codec that is kept current by a real log: what is registered while it runs, and garbage that asks for nothing."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator

import pytest

from streams.codec import SCHEMA_TEXTS, Codec, SchemaIds, subject_of
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.fenced import FencedWriter
from streams.provision import provision
from streams.registry.schema_log import SchemaVersion, schema_record
from streams.registry.schema_watch import FAR_QUESTIONS_PER_S, SchemaWatch, decode_or_learn
from streams.topics import SCHEMAS_TOPIC
from tests.support.broker import Servers
from tests.support.samples import SAMPLES

TOPIC, RECORD = "inference.requests", "InferenceRequest"


@pytest.fixture
async def watch(servers: Servers) -> AsyncIterator[SchemaWatch]:
    settings = servers.settings
    connection = Connection(servers.bootstrap)
    await provision(connection, partitions=settings.partitions, lanes=settings.num_lanes)
    watch = await SchemaWatch.open(connection)
    yield watch
    await watch.stop()


async def register(servers: Servers, watch: SchemaWatch) -> int:
    """Our schema of a request once more, under an id of its own, as another registry would have written it."""
    schema_id = watch.schemas.next_id
    versions = [entry.version for entry in watch.schemas.of(subject_of(TOPIC))]
    text = SCHEMA_TEXTS[RECORD]
    key, value = schema_record(SchemaVersion(subject_of(TOPIC), 1 + max(versions), schema_id, text, text))
    writer = await FencedWriter.claim(Connection(servers.bootstrap), SCHEMAS_TOPIC, 0)
    try:
        await writer.send(key, value)
    finally:
        await writer.stop()
    return schema_id


async def test_a_value_with_a_schema_registered_a_moment_ago_is_read(servers: Servers, watch: SchemaWatch) -> None:
    for _ in range(5):
        schema_id = await register(servers, watch)
        value = b"\x00" + schema_id.to_bytes(4, "big") + Codec(SchemaIds.local()).encode(TOPIC, SAMPLES[RECORD])[5:]
        assert await decode_or_learn(watch.codec, watch, TOPIC, value) == SAMPLES[RECORD]
    assert watch.num_questions <= 5
    assert watch.codec.ids.write_ids.keys() == SchemaIds.local().write_ids.keys()


async def test_what_is_registered_arrives_by_itself(servers: Servers, watch: SchemaWatch) -> None:
    schema_id = await register(servers, watch)
    await watch.catch_up()
    assert subject_of(TOPIC) in watch.codec.ids.by_id[schema_id].subjects
    assert watch.num_questions == 0


async def test_random_ids_ask_at_most_twice_a_second(watch: SchemaWatch) -> None:
    rng, began = random.Random(1), time.monotonic()
    for _ in range(20_000):
        value = b"\x00" + rng.randrange(1 << 20, 1 << 32).to_bytes(4, "big") + b"x"
        with pytest.raises(PoisonRecordError):
            await decode_or_learn(watch.codec, watch, TOPIC, value)
    assert watch.num_questions <= FAR_QUESTIONS_PER_S * (time.monotonic() - began + 1)
