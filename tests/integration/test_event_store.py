"""The event store's contract on a real broker."""

from __future__ import annotations

import pytest

from streams.connection import Connection
from streams.control.event_store import MemoryPlace
from streams.partition_log import KafkaLog
from tests.support.broker import unique
from tests.support.event_store_contract import EventStoreContract
from tests.support.topics import create_topics


class TestEventStoreOnABroker(EventStoreContract):
    @pytest.fixture
    def partitions(self, bootstrap: str) -> KafkaLog:
        return KafkaLog(Connection(bootstrap))

    @pytest.fixture
    def place(self, bootstrap: str) -> MemoryPlace:
        place = MemoryPlace(unique("events"), unique("state"))
        create_topics(bootstrap, place.events)
        create_topics(bootstrap, place.state, config={"cleanup.policy": "compact"})
        return place
