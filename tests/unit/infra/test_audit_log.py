"""The job that keeps the audit log, over partitions in memory: what it records, once, and when it signs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra import audit_log
from infra.audit_key import audit_key, note_head, noted_head
from infra.audit_log import AuditLog
from infra.audit_spool import spool, spooled
from infra.settings import Settings, load_settings
from schemas.audit import AuditEntry
from schemas.environment import Signer
from schemas.memory import MemoryCommand, MemoryEvent
from streams.audit_chain import LOG, Draft
from streams.audit_check import AuditCheck, AuditReport
from streams.canonical import from_json, to_json
from streams.connection import Connection
from streams.control.audit_store import AuditStore
from streams.memory_fold import StoredEvent
from streams.memory_view import ActiveVersion, MemoryHead
from streams.partition_log import LogRecord
from streams.signing import public_key_of
from streams.topics import MAX_RECORD_BYTES, full_name
from tests.support.audit import CODEC, DECODE, T, record
from tests.support.partitions import MemoryPartitions

INTAKE, EVENTS = full_name("audit.intake"), full_name("memory.events")
NOWHERE = Connection("127.0.0.1:1")


class Loop:
    """The Orchestrator's loop, as the job sees it."""

    def __init__(self) -> None:
        self.role = "active"
        self.memory_head = MemoryHead()


class Schemas:
    codec = CODEC

    async def prepare(self, topic: str, value: bytes | None, *, surely: bool = False) -> None:
        return


class Watch:
    """Reads a topic of the partitions whenever it is asked to wait."""

    partitions: MemoryPartitions

    def __init__(
        self,
        connection: Connection,
        topic: str,
        on_batch: Callable[[Sequence[LogRecord]], None],
        *,
        first: int = 0,
        prepare: Callable[[Sequence[LogRecord]], Awaitable[None]],
    ) -> None:
        self.topic, self.on_batch, self.position, self.prepare = topic, on_batch, first, prepare

    async def start(self, timeout_s: float) -> None:
        await self.wait_for(lambda: True, timeout_s, "")

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        batch = await self.partitions.read(self.topic, 0, self.position)
        if batch:
            self.position = batch[-1].offset + 1
            await self.prepare(batch)
            self.on_batch(batch)

    async def stop(self) -> None:
        return


class Commands:
    """A producer that takes commands to memory."""

    def __init__(self) -> None:
        self.sent: list[MemoryCommand] = []

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, partition: int) -> None:
        self.sent.append(CODEC.decode("memory.commands", value))


class World:
    """A broker in memory with an audit log's job beside it."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.partitions, self.loop, self.commands = settings, MemoryPartitions(), Loop(), Commands()
        self.decoded: dict[bytes, AuditEntry] = {}
        Watch.partitions = self.partitions
        for topic in (INTAKE, EVENTS):
            self.partitions.log.create(topic)
        monkeypatch.setattr(audit_log, "KafkaLog", lambda connection, *, fence: self.partitions)
        monkeypatch.setattr(audit_log, "PartitionWatch", Watch)
        monkeypatch.setattr(audit_log, "producer", lambda connection, **settings: self.commands)
        for name in ("LOOK_S", "AGAIN_S"):
            monkeypatch.setattr(audit_log, name, 0.001)

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.partitions.log.append(INTAKE, 0, None, CODEC.encode("audit.intake", record(number)))

    def change(self, kind: str, key: str, body: str, time_us: int = T) -> None:
        head = self.loop.memory_head
        event = MemoryEvent(
            *(head.sequence + 1, head.last_hash, f"c{head.sequence}", "cli", kind, key, 1, body, "why", (), time_us)
        )
        value = CODEC.encode("memory.events", event)
        self.partitions.log.append(EVENTS, 0, None, value)
        self.loop.memory_head = MemoryHead(event.sequence, StoredEvent.of(event, value).value_hash)

    async def until(self, condition: Callable[[list[AuditEntry]], bool], *, leave: bool = False) -> list[AuditEntry]:
        """Run the job until its log is so, then end it by its sign-off, or by a kill."""
        job = AuditLog(self.settings, NOWHERE, self.loop, Schemas())  # type: ignore[arg-type]
        running = asyncio.create_task(job.run())
        async with asyncio.timeout(20):
            while not condition(await self.entries()):
                await asyncio.sleep(0.001)  # a loop that never rests starves the threads that read the spool
                if running.done():
                    running.result()
            if not leave:
                await job.sign_off()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return await self.entries()

    async def entries(self) -> list[AuditEntry]:
        """All of the log; asked at each turn of the loop, so what was decoded once is kept."""
        values = [each.value or b"" for each in await self.partitions.read(full_name(LOG), 0)]
        for value in values:
            if value not in self.decoded:
                self.decoded[value] = CODEC.decode(LOG, value)
        return [self.decoded[value] for value in values]

    async def report(self) -> AuditReport:
        made = AuditCheck(DECODE, [public_key_of(audit_key(self.settings))])
        records = await self.partitions.read(full_name(LOG), 0)
        for number, each in enumerate(records):
            made.record(number, each.value)
        return made.report(len(records), T)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(load_settings(data_dir=tmp_path), monkeypatch)


def named(entries: list[AuditEntry]) -> list[tuple[str, str]]:
    return [(each.record.operation_id, each.record.phase) for each in entries if each.record is not None]


async def test_intake_memory_and_spool_are_recorded_and_signed_for(world: World) -> None:
    world.say(1, 2)
    world.change("VersionActivated", "active/digits", to_json(ActiveVersion("digits", "v1.0.0")))
    spool(world.settings, record(3))
    entries = await world.until(lambda entries: len(named(entries)) == 5)
    assert sorted(named(entries)) == [
        *(("memory-1", "after"), ("memory-1", "before")),
        *(("op1", "before"), ("op2", "before"), ("op3", "before")),
    ]
    report = await world.report()
    assert (report.faults, report.voids, report.point.unsigned) == ((), (), 0)
    last = entries[-1].head
    assert last is not None
    assert (last.memory_sequence, last.memory_hash) == (1, world.loop.memory_head.last_hash)
    assert spooled(world.settings) == []
    assert noted_head(world.settings) == report.point.head


async def test_a_job_that_is_killed_anywhere_goes_on_and_records_once(world: World) -> None:
    world.say(*range(30))
    for number in range(10):
        world.change("IncidentRaised", f"incident/{number}", "{}")
    for stop in (1, 7, 20, 44):
        world.say(stop + 100)
        await world.until(lambda entries, stop=stop: len(named(entries)) >= stop, leave=True)  # type: ignore[misc]
    entries = await world.until(lambda entries: len(named(entries)) == 54)
    assert len(set(named(entries))) == len(named(entries)) == 54
    report = await world.report()
    assert (report.faults, report.voids) == ((), ())


async def test_a_failed_write_is_no_gap_and_no_second_record(world: World) -> None:
    world.say(*range(5))
    world.partitions.faults.lost, world.partitions.faults.unknown = {2}, {4, 9}
    entries = await world.until(lambda entries: len(named(entries)) == 5)
    assert [each.origin_offset for each in entries if each.record is not None] == [0, 1, 2, 3, 4]
    assert (await world.report()).faults == ()


async def test_garbage_in_the_intake_and_in_memory_is_recorded_as_such(world: World) -> None:
    world.partitions.log.append(INTAKE, 0, None, b"?")
    world.partitions.log.append(EVENTS, 0, None, b"?")
    world.say(1)
    entries = await world.until(lambda entries: len(named(entries)) == 3)
    assert {operation for operation, _ in named(entries)} == {"intake-void-0", "memory-void-0", "op1"}


async def test_nothing_is_written_while_another_orchestrator_is_active(world: World) -> None:
    world.loop.role = "standby"
    world.say(1)
    job = AuditLog(world.settings, NOWHERE, world.loop, Schemas())  # type: ignore[arg-type]
    running = asyncio.create_task(job.run())
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert await world.entries() == []
    await job.sign_off()  # nothing to wait for
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_key_is_registered_unless_memory_has_it(world: World) -> None:
    await world.until(lambda entries: bool(world.commands.sent))
    (command,) = world.commands.sent
    assert (command.kind, command.agent, command.key) == ("RegisterSigner", "orchestrator", "signer/orchestrator")
    signer = from_json(Signer, command.body)
    assert signer == Signer("orchestrator", public_key_of(audit_key(world.settings)), "process")
    world.change("SignerRegistered", "signer/orchestrator", to_json(signer))
    await world.until(lambda entries: len(named(entries)) == 2)
    assert len(world.commands.sent) == 1


async def test_an_end_that_was_cut_off_is_recorded_before_the_note_is_written_over(world: World) -> None:
    world.say(1)
    await world.until(lambda entries: len(named(entries)) == 1)
    note_head(world.settings, MemoryHead(99, b"\x09" * 32))
    entries = await world.until(lambda entries: len(named(entries)) == 2)
    cut = next(each.record for each in entries if each.record is not None and each.record.operation == "audit.cut_off")
    assert (cut.outcome, "99:0909" in cut.error_detail) == ("failed", True)
    noted: Any = noted_head(world.settings)
    assert noted.sequence == entries[-1].sequence


async def test_a_memory_that_is_another_one_now_is_recorded_from_its_beginning(world: World) -> None:
    for number in range(4):
        world.change("IncidentRaised", f"incident/{number}", "{}")
    await world.until(lambda entries: len(named(entries)) == 8)
    world.partitions.log._partitions[EVENTS, 0].records.clear()
    world.loop.memory_head = MemoryHead()
    world.change("IncidentRaised", "incident/again", "[]", T + 9)
    entries = await world.until(lambda entries: len(named(entries)) == 10)
    assert named(entries)[-2:] == [("memory-1", "before"), ("memory-1", "after")]


async def test_nobody_takes_the_place_of_a_record_of_memory(world: World) -> None:
    """Whoever can write to the intake knows how the Orchestrator's records are called."""
    for phase in ("before", "after"):
        forged = replace(record(1, phase), operation_id="memory-1", timestamp_us=T)
        world.partitions.log.append(INTAKE, 0, None, CODEC.encode("audit.intake", forged))
    await world.until(lambda entries: len(named(entries)) == 2)
    world.change("VersionActivated", "active/digits", to_json(ActiveVersion("digits", "v1.0.0")))
    entries = await world.until(lambda entries: len(named(entries)) == 4)
    operations = [each.record.operation for each in entries if each.record is not None]
    assert operations == ["models.activate", "models.activate", "memory.VersionActivated", "memory.VersionActivated"]


async def test_a_large_spool_is_signed_for_as_it_goes(world: World) -> None:
    for number in range(450):
        spool(world.settings, record(number))
    await world.until(lambda entries: len(named(entries)) == 450)
    assert (await world.report()).faults == ()


async def test_what_a_killed_job_left_unsigned_is_signed_for_first(world: World) -> None:
    """Killed twice between its last entries and the head that is due."""
    store = AuditStore(world.partitions, CODEC, lambda head: False)
    await store.open()
    for first in (0, 99):  # as the job appends: a batch behind what was not due yet
        await store.append([Draft("intake", number, record(number)) for number in range(first, first + 100)], T)
    await store.stop()
    world.say(*range(500))
    await world.until(lambda entries: len(named(entries)) == 500)
    assert (await world.report()).faults == ()


async def test_a_record_that_is_too_large_for_the_log_is_recorded_as_such(world: World) -> None:
    huge = replace(record(1), error_detail="x" * (MAX_RECORD_BYTES - 200))
    world.partitions.log.append(INTAKE, 0, None, CODEC.encode("audit.intake", huge))
    world.say(2)
    entries = await world.until(lambda entries: len(named(entries)) == 2)
    assert named(entries) == [("intake-void-0", "after"), ("op2", "before")]
    assert (await world.report()).faults == ()


async def test_an_intake_that_is_another_topic_now_is_read_from_its_beginning(world: World) -> None:
    world.say(*range(9))
    await world.until(lambda entries: len(named(entries)) == 9)
    world.partitions.log._partitions[INTAKE, 0].records.clear()
    world.say(50)
    entries = await world.until(lambda entries: len(named(entries)) == 10)
    assert named(entries)[-1] == ("op50", "before")
