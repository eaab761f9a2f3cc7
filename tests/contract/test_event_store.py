"""The event store's contract on the in-memory supplier; tests/integration/test_event_store.py runs it on a broker."""

from __future__ import annotations

import pytest

from streams.control.event_store import MemoryPlace
from tests.support.event_store_contract import EventStoreContract
from tests.support.partitions import MemoryPartitions


class TestEventStoreInMemory(EventStoreContract):
    @pytest.fixture
    def partitions(self) -> MemoryPartitions:
        return MemoryPartitions()

    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace()
