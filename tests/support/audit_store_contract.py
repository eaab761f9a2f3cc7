"""What the audit store must do on every supplier of partitions: in memory, and on a real broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import pytest

from streams.audit_chain import INTAKE, MEMORY, SPOOL, Draft, is_signed, sign_head
from streams.audit_check import AuditCheck, AuditReport
from streams.control.audit_store import AuditStore
from streams.errors import FencedError, InvariantError
from streams.partition_log import PartitionLog
from tests.support.audit import CODEC, DECODE, KEYS, SEED, T, record
from tests.support.audit import MEMORY as MEMORY_HEAD

NOW = T + 100_000_000


def drafts(*numbers: int) -> list[Draft]:
    """Records of the intake; offset and operation have the same number."""
    return [Draft(INTAKE, number, record(number)) for number in numbers]


class AuditStoreContract(ABC):
    """The suite; subclasses give ``partitions`` and ``topic`` (fresh)."""

    @pytest.fixture
    @abstractmethod
    def partitions(self) -> PartitionLog:
        """The supplier."""

    @pytest.fixture
    @abstractmethod
    def topic(self) -> str:
        """A fresh topic."""

    @pytest.fixture
    def make(self, partitions: PartitionLog, topic: str) -> Any:
        """Makes a store on the fresh topic."""
        return lambda: AuditStore(partitions, CODEC, partial(is_signed, public_keys=KEYS), topic)

    async def report(self, partitions: PartitionLog, topic: str) -> AuditReport:
        """Check what stands in the topic, markers left out."""
        made = AuditCheck(DECODE, KEYS)
        records = await partitions.read(topic, 0)
        for number, each in enumerate(records):
            made.record(number, each.value)
        return made.report(len(records), NOW)

    async def test_what_is_appended_is_a_sound_chain(self, make: Any, partitions: PartitionLog, topic: str) -> None:
        store = make()
        await store.open()
        assert await store.append(drafts(0, 1, 2), NOW) == 3
        await store.sign(sign_head(store.point, MEMORY_HEAD, SEED, NOW))
        assert (store.point.sequence, store.point.unsigned, store.point.intake_offset) == (4, 0, 3)
        report = await self.report(partitions, topic)
        assert (report.faults, report.voids, report.point) == ((), (), store.point)
        await store.stop()

    async def test_a_successor_goes_on_where_the_chain_stands(
        self, make: Any, partitions: PartitionLog, topic: str
    ) -> None:
        first, second = make(), make()
        await first.open()
        await first.append(drafts(0, 1), NOW)
        await first.sign(sign_head(first.point, MEMORY_HEAD, SEED, NOW))
        await first.append([Draft(MEMORY, 9, record(50), more=True)], NOW)
        assert await second.open() == first.point
        assert (second.point.intake_offset, second.point.memory_offset, second.point.memory_signed) == (2, 9, 7)
        with pytest.raises(FencedError):
            await first.append(drafts(2), NOW)
        both = [Draft(MEMORY, 9, record(50), more=True), Draft(MEMORY, 9, record(50, "after"))]
        assert await second.append([*both, *drafts(2)], NOW) == 2  # the first of the pair stands already
        assert second.point.memory_offset == 10
        report = await self.report(partitions, topic)
        assert (report.faults, report.voids, report.num_entries) == ((), (), 6)
        assert second.strangers == 0
        for store in (first, second):
            await store.stop()

    async def test_a_record_twice_is_once(self, make: Any, partitions: PartitionLog, topic: str) -> None:
        store, again = make(), make()
        await store.open()
        assert await store.append([Draft(SPOOL, -1, record(1)), *drafts(1)], NOW) == 1
        assert await store.append(drafts(1, 2), NOW) == 1
        await again.open()
        assert await again.append([Draft(SPOOL, -1, record(1)), *drafts(1, 2, 3)], NOW) == 1
        assert (await self.report(partitions, topic)).num_entries == 3
        for each in (store, again):
            await each.stop()

    async def test_what_somebody_else_wrote_leads_nowhere(
        self, make: Any, partitions: PartitionLog, topic: str
    ) -> None:
        store = make()
        await store.open()
        await store.append(drafts(0, 1), NOW)
        await store.sign(sign_head(store.point, MEMORY_HEAD, SEED, NOW))
        head, point = (await partitions.read(topic, 0))[-1].value, store.point
        await store.stop()
        stranger = await partitions.claim(topic, 0)
        for value in (b"?", None, head):  # the last: a copy of the newest head
            await stranger.send(b"k", value)
        await stranger.stop()
        again = make()
        assert await again.open() == point
        assert again.strangers == 3
        await again.append(drafts(2), NOW)
        report = await self.report(partitions, topic)
        assert (report.faults, len(report.voids), report.point) == ((), 3, again.point)
        await again.stop()

    async def test_nothing_is_written_before_it_is_open(self, make: Any) -> None:
        with pytest.raises(InvariantError, match="not open"):
            await make().append(drafts(0), NOW)
