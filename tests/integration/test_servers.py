"""The session's servers are real: a record goes through the broker and a key through Redis."""

from __future__ import annotations

import aiokafka
import redis
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.broker import Servers, unique


async def test_a_record_goes_through_the_broker(servers: Servers) -> None:
    topic = unique("servers")
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=servers.bootstrap)
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, b"x")
    finally:
        await producer.stop()
    assert (sent.partition, sent.offset) == (0, 0)


def test_redis_answers(servers: Servers) -> None:
    with redis.Redis.from_url(servers.redis_url) as client:
        key = unique("key")
        assert client.set(key, "1", ex=10)
        assert client.get(key) == b"1"
