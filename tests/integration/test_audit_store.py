"""The audit store's contract on a real broker."""

from __future__ import annotations

import pytest

from streams.connection import Connection
from streams.partition_log import KafkaLog
from tests.support.audit_store_contract import AuditStoreContract
from tests.support.broker import unique
from tests.support.topics import create_topics


class TestAuditStoreOnABroker(AuditStoreContract):
    @pytest.fixture
    def partitions(self, bootstrap: str) -> KafkaLog:
        return KafkaLog(Connection(bootstrap))

    @pytest.fixture
    def topic(self, bootstrap: str) -> str:
        name = unique("audit")
        create_topics(bootstrap, name)
        return name
