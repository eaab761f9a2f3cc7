"""``isos topics`` and ``isos tail`` on a real broker."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from infra.commands import tail, topics
from streams.codec import Codec
from streams.connection import Connection
from streams.provision import may_grow
from streams.registry.schema_log import read_schema_ids
from streams.topics import TOPICS as ALL
from streams.topics import full_name
from tests.support.broker import Servers, unique
from tests.support.samples import SAMPLES

RUN = CliRunner()
TOPIC = "control.scale-confirmations"


@pytest.fixture
def provisioned(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ISOS_BROKERS", servers.bootstrap)
    assert RUN.invoke(topics.app, ["provision"]).exit_code == 0
    return servers.bootstrap


def test_provision_repeats_and_list_shows_the_brokers_partitions(provisioned: str) -> None:
    done = RUN.invoke(topics.app, ["provision", "--output", "json"])
    (row,) = json.loads(done.stdout)
    assert (row["created"], row["schemas_added"]) == (0, 0)
    listed = json.loads(RUN.invoke(topics.app, ["list", "--output", "json"]).stdout)
    grown = {topic.full_name for topic in ALL.values() if may_grow(topic)}  # by other tests on this broker
    assert all(row["on_broker"] == row["partitions"] for row in listed if row["topic"] not in grown)
    assert all(row["on_broker"] >= row["partitions"] for row in listed)


async def test_tail_decodes_and_stops_after_so_many(provisioned: str) -> None:
    codec = Codec(await read_schema_ids(Connection(provisioned)))
    confirmation = SAMPLES["ScaleConfirmation"]
    producer = Producer({"bootstrap.servers": provisioned})
    producer.produce(full_name(TOPIC), codec.encode(TOPIC, confirmation), unique("tail"))
    assert producer.flush(10) == 0
    arguments = [TOPIC, "--decode", "--from-beginning", "-n", "1", "--output", "jsonl"]
    done = await asyncio.to_thread(RUN.invoke, tail.app, arguments)
    assert done.exit_code == 0
    (row,) = (json.loads(text) for text in done.stdout.splitlines())
    assert set(row["value"]) == {field.name for field in dataclasses.fields(confirmation)}


def test_an_unknown_topic_is_exit_3(provisioned: str) -> None:
    done = RUN.invoke(tail.app, [unique("nothing")])
    assert done.exit_code == 3
    assert "isos topics list" in done.stderr
