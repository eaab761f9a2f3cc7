"""The writer of a process: before and after, a bounded queue, drops that are told, a broker that comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.audit import AuditRecord
from streams import audit_writer
from streams.audit_operation import Actor, Facts
from streams.audit_writer import INTAKE, AuditWriter
from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError

CODEC = Codec(SchemaIds.local())
NOWHERE = Connection("127.0.0.1:1")
ACTOR = Actor("supervisor", "control-0", "staging")


class Broker:
    """Stands in for producers: takes records, or is away for so many connections."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.records: list[AuditRecord] = []
        self.failures: list[Exception] = []
        self.ids = CODEC.ids
        self.stopped = 0

    def __call__(self, connection: Connection, **settings: Any) -> Broker:
        assert settings == {"enable_idempotence": True}
        return self

    async def start(self) -> None:
        if self.away:
            self.away -= 1
            raise OSError("nobody there")

    async def stop(self) -> None:
        self.stopped += 1

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, partition: int) -> None:
        assert (topic, partition) == ("isos.audit.intake.v1", 0)
        if self.failures:
            raise self.failures.pop(0)
        record = CODEC.decode(INTAKE, value)
        assert key == record.operation_id.encode()
        self.records.append(record)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()

    async def ids(connection: Connection) -> SchemaIds:
        return made.ids

    monkeypatch.setattr(audit_writer, "read_schema_ids", ids)
    monkeypatch.setattr(audit_writer, "producer", made)
    monkeypatch.setattr(audit_writer, "AGAIN_S", 0.0)
    return made


async def sent(writer: AuditWriter) -> None:
    """Run until everything is sent."""
    running = asyncio.create_task(writer.run())
    await writer.drain(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_operation_is_told_before_and_after(broker: Broker) -> None:
    times = iter((10, 1_500_010))
    writer = AuditWriter(NOWHERE, ACTOR, clock_us=lambda: next(times))
    with writer.operation("executors.scale", Facts(resources=("executors=3",))) as operation:
        operation.affected("executor-2")
    await sent(writer)
    before, after = broker.records
    assert (before.phase, after.phase, before.operation_id) == ("before", "after", after.operation_id)
    assert (before.resources, before.outcome, before.user) == (("executors=3",), "pending", "supervisor")
    assert (after.outcome, after.resources_affected, after.duration_seconds) == ("done", ("executor-2",), 1.5)
    assert broker.stopped == 1


async def test_an_error_is_an_outcome_and_goes_on(broker: Broker) -> None:
    writer = AuditWriter(NOWHERE, ACTOR)
    with pytest.raises(ValueError, match="no"), writer.operation("executors.scale"):
        raise ValueError("no")
    await sent(writer)
    assert [(each.outcome, each.error_detail) for each in broker.records] == [("pending", ""), ("failed", "no")]


async def test_what_finds_no_room_is_dropped_and_told_in_the_next_that_does(broker: Broker) -> None:
    writer = AuditWriter(NOWHERE, ACTOR, limit=2)
    record = AuditRecord("op", "before", 1, "u", "", "sandbox", "x")
    assert [writer.note(record) for _ in range(5)] == [True, True, False, False, False]
    await sent(writer)
    assert writer.note(record)
    await sent(writer)
    assert [each.num_dropped for each in broker.records] == [0, 0, 3]
    assert writer.num_dropped == 3


async def test_a_broker_that_is_away_is_tried_again_and_nothing_is_lost(broker: Broker) -> None:
    broker.away, broker.failures = 2, [UnreachableError("sending", "gone")]
    writer = AuditWriter(NOWHERE, ACTOR)
    with writer.operation("executors.scale"):
        pass
    await sent(writer)
    assert [each.phase for each in broker.records] == ["before", "after"]


async def test_without_a_schema_records_are_dropped_and_counted(broker: Broker) -> None:
    broker.ids = SchemaIds({}, {})
    writer = AuditWriter(NOWHERE, ACTOR)
    with writer.operation("executors.scale"):
        pass
    await sent(writer)
    assert (broker.records, writer.num_dropped) == ([], 2)


async def test_a_dropped_record_takes_no_count_along(broker: Broker) -> None:
    known, broker.ids = broker.ids, SchemaIds({}, {})
    writer = AuditWriter(NOWHERE, ACTOR)
    record = AuditRecord("op", "before", 1, "u", "", "sandbox", "x")
    for ids in (broker.ids, broker.ids, known):
        broker.ids = ids
        assert writer.note(record)
        await sent(writer)
    assert ([each.num_dropped for each in broker.records], writer.num_dropped) == ([2], 2)


async def test_draining_does_not_wait_for_a_broker_for_ever(broker: Broker) -> None:
    writer = AuditWriter(NOWHERE, ACTOR)
    writer.note(AuditRecord("op", "before", 1, "u", "", "sandbox", "x"))
    await writer.drain(0.01)
    assert broker.records == []
