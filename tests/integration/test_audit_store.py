"""The audit store's contract on a real broker, and what a check finds there: strangers, a lost beginning."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from infra import audit_check
from streams.audit_chain import LOG, Draft, is_signed, sign_head
from streams.audit_check import AuditReport
from streams.connection import Connection, producer
from streams.control.audit_store import AuditStore
from streams.partition_log import KafkaLog
from tests.support.audit import CODEC, KEYS, MEMORY, SEED, T, record
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


async def test_a_check_of_a_real_log_finds_strangers_and_what_was_deleted(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, now_us, connection = unique("audit"), T + 100_000_000, Connection(bootstrap)
    create_topics(bootstrap, topic)
    monkeypatch.setattr(audit_check, "LOG_PLACE", TopicPartition(topic, 0))

    async def ids(_connection: Connection) -> Any:
        return CODEC.ids

    async def keys(*_: Any) -> list[str]:
        return list(KEYS)

    monkeypatch.setattr(audit_check, "read_schema_ids", ids)
    monkeypatch.setattr(audit_check, "public_keys", keys)

    async def check() -> AuditReport:
        return (await audit_check.check_audit(connection, (), now_us, lambda *_: None))[0]

    store = AuditStore(KafkaLog(connection), CODEC, partial(is_signed, public_keys=KEYS), topic)
    for first in (0, 3):  # two tenures, so that markers stand between the entries too
        await store.open()
        await store.append([Draft("intake", number, record(number)) for number in range(first, first + 3)], now_us)
        await store.sign(sign_head(store.point, MEMORY, SEED, now_us))
        await store.stop()
    whole = await check()
    assert (whole.faults, whole.voids, whole.num_entries, whole.num_heads, whole.signed) == ((), (), 8, 2, 7)
    assert whole.num_entries + whole.num_markers == whole.end

    client = producer(connection)
    await client.start()
    last = CODEC.decode(LOG, (await KafkaLog(connection).read(topic, 0))[-1].value)
    values = (b"?", CODEC.encode(LOG, last))
    offsets = [(await client.send_and_wait(topic, value, partition=0)).offset for value in values]
    await client.stop()
    forged = await check()
    assert ([each.offset for each in forged.voids], forged.faults) == (offsets, ())

    cut = whole.head_offset - 1
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_records([Place(topic, 0, cut)]).values():
        future.result(20)
    broken = await check()
    assert (broken.faults[0].offset, broken.faults[0].sequence) == (cut, 1)
    assert "those before it are gone and were not old enough" in broken.faults[0].what
