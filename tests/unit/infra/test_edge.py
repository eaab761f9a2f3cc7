"""How an edge is put together: from settings, and closed whole when it cannot start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.edge import EdgeInputs, open_edge
from infra.settings import load_settings
from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError, consumer
from streams.letters.deadletter import DeadLetters
from streams.topic_watch import TopicWatch
from tests.support.broker import free_ports
from tests.support.fake_kafka import FakeProducer


class FakeSchemas:
    """A watch that knows our own schemas."""

    codec = Codec(SchemaIds.local())


class Reader:
    """A consumer that starts, or does not."""

    def __init__(self) -> None:
        self.started = self.stopped = 0

    _client = SimpleNamespace(force_metadata_update=lambda: None)

    async def start(self) -> None:
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1


def inputs(reader: Any) -> EdgeInputs:
    producer: Any = FakeProducer()
    schemas: Any = FakeSchemas()
    return EdgeInputs(
        Connection("127.0.0.1:1"), reader, producer, schemas, DeadLetters(producer, "edge"), b"t" * 16,
        lambda request: request, lambda: 0, TopicWatch(Connection("127.0.0.1:1"), "inference.requests", b"t" * 16),
    )  # fmt: skip


async def test_settings_reach_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("infra.edge.deliver_columns", lambda reader, **how: given.append(reader) or (lambda: None))
    settings = load_settings(
        data_dir=tmp_path, request_id_window_s=7, blob_threshold_bytes=99, redis_port=free_ports(1)[0]
    )
    reader = Reader()
    async with open_edge(settings, inputs(reader)) as opened:
        assert opened.ids.window_us == 7_000_000
        assert opened.loop._blob_bytes == 99
        assert (reader.started, reader.stopped, given) == (1, 0, [reader])
        assert opened.late._blobs.directory.is_relative_to(tmp_path)  # type: ignore[attr-defined]
    assert reader.stopped == 1


async def test_a_broker_that_is_away(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    reader = consumer(Connection(f"127.0.0.1:{port}"))
    with pytest.raises(UnreachableError):
        async with open_edge(load_settings(data_dir=tmp_path), inputs(reader)):
            pytest.fail("it opened")
