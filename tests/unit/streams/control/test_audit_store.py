"""The audit store's contract in memory; failed writes; a log whose head lies far back; one that lost its beginning."""

from __future__ import annotations

from functools import partial

import pytest

from streams.audit_chain import is_signed, sign_head
from streams.control import audit_store
from streams.control.audit_store import AuditStore
from streams.errors import RetriableError
from tests.support.audit import CODEC, KEYS, MEMORY, SEED, audit_log
from tests.support.audit_store_contract import NOW, AuditStoreContract, drafts
from tests.support.partitions import MemoryPartitions

TOPIC = "audit"


class TestAuditStoreInMemory(AuditStoreContract):
    @pytest.fixture
    def partitions(self) -> MemoryPartitions:
        return MemoryPartitions()

    @pytest.fixture
    def topic(self) -> str:
        return TOPIC


def store_on(partitions: MemoryPartitions) -> AuditStore:
    return AuditStore(partitions, CODEC, partial(is_signed, public_keys=KEYS), TOPIC)


@pytest.mark.parametrize("fault", ["lost", "unknown"])
@pytest.mark.parametrize("number", range(1, 7))
async def test_a_failed_write_is_gone_about_by_opening_anew(fault: str, number: int) -> None:
    partitions = MemoryPartitions()
    getattr(partitions.faults, fault).add(number)
    store = store_on(partitions)
    await store.open()
    waiting = drafts(*range(5))
    while True:
        try:
            await store.append(waiting, NOW)
            await store.sign(sign_head(store.point, MEMORY, SEED, NOW))
            break
        except RetriableError:
            await store.open()
    report = await TestAuditStoreInMemory().report(partitions, TOPIC)
    assert (report.faults, report.voids) == ((), ())
    entries = [CODEC.decode("audit.log", each.value) for each in await partitions.read(TOPIC, 0)]
    assert [each.origin_offset for each in entries if each.record is not None] == [0, 1, 2, 3, 4]


async def filled(length: int, every: int) -> MemoryPartitions:
    partitions = MemoryPartitions()
    writer = await partitions.claim(TOPIC, 0)
    for value in audit_log(length, every).values[:-1]:
        await writer.send(None, value)
    return partitions


async def test_the_newest_head_is_found_however_far_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_store, "REMEMBERED", 2)
    partitions = await filled(14, 3)
    stranger = await partitions.claim(TOPIC, 0)
    for _ in range(30):
        await stranger.send(None, b"?")
    store = store_on(partitions)
    point = await store.open()
    assert (point.sequence, point.unsigned) == (13, 1)


async def test_a_log_that_retention_took_the_beginning_of_goes_on() -> None:
    for first, entries in ((3, 13), (12, 13)):  # with a head left, and without one
        partitions = await filled(14, 5)
        partitions.first = first
        store = store_on(partitions)
        assert (await store.open()).sequence == entries
        assert await store.append(drafts(99), NOW) == 1


async def test_an_empty_log() -> None:
    store = store_on(MemoryPartitions())
    point = await store.open()
    assert (point.sequence, point.intake_offset, point.memory_offset, store.strangers) == (0, 0, 0, 0)
