"""The follower's fold and what it tells; the log of a broker is in tests/integration/test_schema_watch.py."""

from __future__ import annotations

from typing import Any

import pytest

import streams.registry.schema_follower
import streams.watch
from streams.connection import Connection
from streams.errors import RetriableError
from streams.memory_log import MemoryLog
from streams.registry.schema_follower import SchemaFollower
from streams.registry.schema_log import SchemaLog, SchemaVersion, schema_record
from streams.topics import SCHEMAS_TOPIC
from tests.support.fake_consumer import FakeConsumer

NOWHERE = Connection("127.0.0.1:1")


def append(log: MemoryLog, schema_id: int) -> int:
    key, value = schema_record(SchemaVersion("s", schema_id, schema_id, '"long"', '"long"'))
    return log.append(SCHEMAS_TOPIC, 0, key, value)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    log = MemoryLog()
    log.create(SCHEMAS_TOPIC)
    for module in (streams.watch, streams.registry.schema_follower):
        monkeypatch.setattr(module, "consumer", lambda connection, **_: FakeConsumer(log, []))
    monkeypatch.setattr(streams.watch, "RETRY_S", 0.001)
    return log


async def test_it_tells_what_is_new_and_nothing_else(log: MemoryLog) -> None:
    told: list[SchemaLog] = []
    append(log, 1)
    append(log, 2)
    follower = SchemaFollower(NOWHERE, told.append)
    await follower.start(5)
    assert [len(each.versions) for each in told] == [2]  # once, with all that was there
    await follower.wait_for_offset(append(log, 3), 5)
    log.append(SCHEMAS_TOPIC, 0, b'{"keytype":"NOOP","magic":0}', None)
    log.skip(SCHEMAS_TOPIC, 0, 1)
    await follower.catch_up(5)
    assert [len(each.versions) for each in told] == [2, 3]
    assert follower.log == told[-1]
    await follower.stop()


async def test_a_question_that_fails_is_retriable_and_asked_anew(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = SchemaFollower(NOWHERE)
    await follower.start(5)
    clients: list[Any] = []

    class Broken(FakeConsumer):
        async def end_offsets(self, places: Any) -> Any:
            raise OSError("gone")

    def made(connection: Connection) -> FakeConsumer:
        clients.append(Broken(log, []) if not clients else FakeConsumer(log, []))
        return clients[-1]

    monkeypatch.setattr(streams.registry.schema_follower, "consumer", made)
    with pytest.raises(RetriableError, match="asking for the newest schemas"):
        await follower.catch_up(5)
    await follower.catch_up(5)
    await follower.catch_up(5)
    assert len(clients) == 2
    await follower.stop()
