"""Where an edge's rows leave: frames of rows that passed go to ``inference.admitted``, of ended ones to ``executed``.

A row is held by an entry of its partition's progress, which is finished when every frame of its group is acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from aiokafka import AIOKafkaProducer

from schemas.frame import InferenceFrame
from streams.codec import Codec
from streams.columns import FrameBuilder, Row
from streams.committed import CommittedConsumer, Holder
from streams.topics import full_name


class RowOutlet:
    """Builds and sends frames of one edge process. ``num_frames`` counts them."""

    def __init__(
        self,
        source: CommittedConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        memory_sequence: Callable[[], int],
        topic_id: bytes,
    ) -> None:
        self.topic_id = topic_id
        self.num_frames = 0
        self._source = source
        self._producer = producer
        self._codec = codec
        self._memory_sequence = memory_sequence

    async def send_rows(self, partition: int, rows: Iterable[Row], holders: Sequence[Holder]) -> None:
        """Send rows of one source partition, each as its error says. Raises RetriableError."""
        admitted, ended = FrameBuilder(self.topic_id, partition), FrameBuilder(self.topic_id, partition)
        for row in rows:
            (admitted if row.error is None else ended).add(row)
        now_us, sequence = time.time_ns() // 1000, self._memory_sequence()
        for topic, builder in (("inference.admitted", admitted), ("inference.executed", ended)):
            for frame in builder.build(self.num_frames, now_us, sequence):
                await self.send_frame(topic, frame, holders)

    async def send_frame(self, topic: str, frame: InferenceFrame, holders: Sequence[Holder]) -> None:
        """Send one frame, on its own partition's number. Raises RetriableError."""
        self.num_frames += 1
        value = self._codec.encode(topic, frame)
        await self._source.send(self._producer, full_name(topic), value, frame.partition, holders)
