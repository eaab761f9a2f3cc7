"""Records that can never be processed, kept as they came with the reason in headers (names after KIP-1034)."""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.coordinate import RecordCoordinate
from streams.errors import PoisonRecordError, RetriableError
from streams.topics import full_name

TOPIC: Final = full_name("inference.dlq")
CODE_HEADER: Final = "isos-code"
SEND_TIMEOUT_S: Final = 30.0


class DeadLetters:
    """Writes dead letters of one stage; the caller goes on only when the broker has acknowledged."""

    def __init__(self, producer: AIOKafkaProducer, stage: str) -> None:
        self._producer = producer
        self._stage = stage

    async def write(self, value: bytes | None, error: PoisonRecordError, where: RecordCoordinate) -> None:
        """Keep ``value`` under the key ``topic/partition/offset``. Raises RetriableError when it cannot be written."""
        headers = [
            ("__streams.errors.topic", where.topic.encode()),
            ("__streams.errors.partition", str(where.partition).encode()),
            ("__streams.errors.offset", str(where.offset).encode()),
            ("__streams.errors.exception", type(error).__name__.encode()),
            ("__streams.errors.message", error.message.encode()[:1000]),
            (CODE_HEADER, error.code.encode()),
            ("isos-stage", self._stage.encode()),
        ]
        key = f"{where.topic}/{where.partition}/{where.offset}".encode()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._producer.send_and_wait(TOPIC, value, key=key, headers=headers)
        except (KafkaError, TimeoutError) as failed:
            raise RetriableError(f"a dead letter could not be written: {failed}") from failed
