"""What every supplier of the log must do: run in memory by the contract tests, on a broker by the integration tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import pytest

from streams.errors import FencedError
from streams.memory_log import LogRecord

Headers = tuple[tuple[str, bytes], ...]


class Writer(Protocol):
    """The one writer of a partition, made by a claim."""

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Write a record and return its offset."""


class Supplier(Protocol):
    """A log with one fresh topic of two partitions."""

    async def claim(self, partition: int) -> Writer:
        """Shut out earlier writers and return the new one."""

    async def read(self, partition: int, offset: int) -> list[LogRecord]:
        """Every record from ``offset`` to the end as of now."""

    async def end_offset(self, partition: int) -> int:
        """The offset that comes next."""


class LogContract(ABC):
    """The suite; subclasses give the fixture ``supplier``."""

    @pytest.fixture
    @abstractmethod
    def supplier(self) -> Any:
        """A fresh supplier."""

    async def test_records_come_back_in_order_with_key_value_and_headers(self, supplier: Supplier) -> None:
        writer = await supplier.claim(0)
        first = await writer.send(b"k", b"one", (("h", b"1"), ("h", b"2")))
        second = await writer.send(None, None)
        third = await writer.send(b"", b"")
        assert second == first + 1
        assert third == second + 1
        records = await supplier.read(0, first)
        assert [(r.offset, r.key, r.value, tuple(r.headers)) for r in records] == [
            (first, b"k", b"one", (("h", b"1"), ("h", b"2"))),
            (second, None, None, ()),
            (third, b"", b"", ()),
        ]

    async def test_reading_starts_at_the_offset_asked_for(self, supplier: Supplier) -> None:
        writer = await supplier.claim(1)
        offsets = [await writer.send(b"k", bytes([n])) for n in range(4)]
        assert [r.offset for r in await supplier.read(1, offsets[2])] == offsets[2:]
        assert await supplier.read(1, offsets[-1] + 1) == []

    async def test_a_claim_leaves_an_offset_that_nobody_reads(self, supplier: Supplier) -> None:
        before = await supplier.end_offset(0)
        await supplier.claim(0)
        after = await supplier.end_offset(0)
        assert after > before
        assert await supplier.read(0, 0) == []

    async def test_the_end_offset_is_where_the_next_record_lands(self, supplier: Supplier) -> None:
        writer = await supplier.claim(0)
        end = await supplier.end_offset(0)
        assert await writer.send(b"k", b"v") == end
        assert await supplier.end_offset(0) == end + 1

    async def test_a_predecessor_is_refused_and_writes_nothing(self, supplier: Supplier) -> None:
        old = await supplier.claim(0)
        await old.send(b"k", b"old")
        new = await supplier.claim(0)
        with pytest.raises(FencedError):
            await old.send(b"k", b"zombie")
        await new.send(b"k", b"new")
        with pytest.raises(FencedError):
            await old.send(b"k", b"zombie again")
        assert [r.value for r in await supplier.read(0, 0)] == [b"old", b"new"]

    async def test_a_claim_of_one_partition_leaves_the_others_alone(self, supplier: Supplier) -> None:
        zero = await supplier.claim(0)
        await supplier.claim(1)
        await zero.send(b"k", b"still mine")
        assert [r.value for r in await supplier.read(0, 0)] == [b"still mine"]
        assert await supplier.read(1, 0) == []

    async def test_claims_can_follow_each_other_at_once(self, supplier: Supplier) -> None:
        writers = [await supplier.claim(0) for _ in range(4)]
        for stale in writers[:-1]:
            with pytest.raises(FencedError):
                await stale.send(b"k", b"stale")
        await writers[-1].send(b"k", b"last")
        assert [r.value for r in await supplier.read(0, 0)] == [b"last"]
