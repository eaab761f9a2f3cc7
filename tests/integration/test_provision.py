"""Topics and schemas on a real broker."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError, bounded
from streams.provision import ALL, ProvisionError, provision, topic_ids, topic_partitions
from streams.registry.schema_log import missing, read_schema_log
from streams.topics import TOPICS, full_name
from tests.support.broker import Servers, free_ports
from tests.support.samples import SAMPLES


async def test_everything_is_created_once_and_then_left_alone(servers: Servers) -> None:
    connection, settings = Connection(servers.bootstrap), servers.settings
    first = await provision(connection, partitions=settings.partitions, lanes=settings.num_lanes)
    again = await provision(connection, partitions=settings.partitions, lanes=settings.num_lanes)
    assert again.created == ()
    assert again.num_registered == 0
    assert again.topic_ids == first.topic_ids
    assert set(first.topic_ids) == set(ALL)
    counts = await topic_partitions(connection, ALL)
    assert counts["inference.requests"] == counts["inference.results"] == settings.partitions
    assert counts["inference.routed"] == settings.num_lanes
    assert counts["_schemas"] == counts["memory.events"] == 1


async def test_the_schemas_are_in_the_log_and_serve_a_codec(servers: Servers) -> None:
    connection, settings = Connection(servers.bootstrap), servers.settings
    ids = (await provision(connection, partitions=settings.partitions, lanes=settings.num_lanes)).schema_ids
    assert missing(await read_schema_log(connection)) == []
    assert set(ids.write_ids) == set(SchemaIds.local().write_ids)
    codec = Codec(ids)
    for topic in TOPICS.values():
        if topic.record is not None:
            record = SAMPLES[topic.record]
            assert codec.decode(topic.name, codec.encode(topic.name, record)) == record


async def test_topic_ids_are_the_brokers(servers: Servers) -> None:
    connection, settings = Connection(servers.bootstrap), servers.settings
    await provision(connection, partitions=settings.partitions, lanes=settings.num_lanes)
    ids = await topic_ids(connection, ["inference.requests"])
    name = full_name("inference.requests")
    admin = AdminClient({"bootstrap.servers": servers.bootstrap})
    described = admin.describe_topics(TopicCollection([name]))[name].result(15)
    # The client shows the id as unpadded base64 of the same 16 bytes.
    assert len(ids["inference.requests"]) == 16
    assert base64_of(ids["inference.requests"]) == str(described.topic_id)
    assert uuid.UUID(bytes=ids["inference.requests"]).version == 4


def base64_of(data: bytes) -> str:

    return base64.b64encode(data).decode().rstrip("=")


async def test_a_difference_is_named_and_nothing_is_altered(servers: Servers) -> None:
    connection, settings = Connection(servers.bootstrap), servers.settings
    await provision(connection, partitions=settings.partitions, lanes=settings.num_lanes)
    with pytest.raises(ProvisionError) as caught:
        await provision(connection, partitions=settings.partitions + 1, lanes=settings.num_lanes)
    sentence = f"topic isos.inference.requests.v1 has {settings.partitions} partitions"
    assert caught.value.differences[0].startswith(sentence)
    assert (await topic_partitions(connection, ["inference.requests"]))["inference.requests"] == settings.partitions


async def test_an_agent_more_gets_its_journal_and_one_less_is_no_difference(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, settings = Connection(servers.bootstrap), servers.settings
    given = {"partitions": settings.partitions, "lanes": settings.num_lanes}
    await provision(connection, **given)
    before = (await topic_partitions(connection, ["control.journal"]))["control.journal"]
    monkeypatch.setitem(ALL, "control.journal", replace(ALL["control.journal"], partitions=before + 1))
    for _ in range(2):
        assert (await provision(connection, **given)).created == ()
        counts = await bounded(topic_partitions(connection, ["control.journal"]), 20, "asking for partitions")
        assert counts == {"control.journal": before + 1}
    monkeypatch.undo()
    assert (await provision(connection, **given)).created == ()


async def test_no_broker_is_a_sentence_at_once() -> None:
    (port,) = free_ports(1)
    with pytest.raises(UnreachableError, match="refused"):
        await bounded(provision(Connection(f"127.0.0.1:{port}"), partitions=1, lanes=1), 3, "noticing")
