"""Where an edge's rows leave: frames of rows that passed go to ``inference.admitted``, of ended ones to ``executed``.

A row is held by an entry of its partition's progress, which is finished when every frame of its group is acknowledged.
Rows that ended travel on with the others where the order of their key is kept (``streams/key_order.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from schemas.frame import InferenceFrame
from streams.codec import Codec
from streams.committed import CommittedConsumer, Holder
from streams.edge.column_frames import FrameHead, column_frames, joined
from streams.edge.request_batch import RequestBatch
from streams.frame_builder import FrameBuilder, Row
from streams.topics import full_name

UNKNOWN: Final = "unknown_model"
"""Another edge may know the model, and that it is ordered."""


class RowOutlet:
    """Builds and sends frames of one edge process. ``num_frames`` counts them, ``ordered`` are the ordered models."""

    def __init__(
        self,
        source: CommittedConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        memory_sequence: Callable[[], int],
        topic_id: bytes,
        ordered: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self.ordered = ordered
        self.topic_id = topic_id
        self.num_frames = 0
        self._source = source
        self._producer = producer
        self._codec = codec
        self._memory_sequence = memory_sequence

    async def send_rows(self, partition: int, rows: Iterable[Row], holders: Sequence[Holder]) -> None:
        """Send rows of one source partition, each as its error says. Raises RetriableError."""
        await self._send(partition, rows, holders, lambda head: [])

    async def send_batch(
        self, batch: RequestBatch, chosen: NDArray[Any], rows: Iterable[Row], holders: Sequence[Holder]
    ) -> None:
        """Send columnar records that passed (ascending indexes), and rows beside them. Raises RetriableError."""
        await self._send(
            batch.partition,
            rows,
            holders,
            lambda head: column_frames(batch, chosen, head, self.num_frames, ordered=self.ordered()),
        )

    async def _send(
        self,
        partition: int,
        rows: Iterable[Row],
        holders: Sequence[Holder],
        columnar: Callable[[FrameHead], list[InferenceFrame]],
    ) -> None:
        admitted, ended = FrameBuilder(self.topic_id, partition), FrameBuilder(self.topic_id, partition)
        ordered = self.ordered()
        for row in rows:
            stays = row.error is None or (row.routing_key and (row.model in ordered or row.error.code == UNKNOWN))
            (admitted if stays else ended).add(row)
        head = FrameHead(self.topic_id, partition, time.time_ns() // 1000, self._memory_sequence())
        frames = columnar(head)
        others = admitted.build(self.num_frames + len(frames), head.now_us, head.memory_sequence, ordered)
        if len(frames) == len(others) == 1 and _data_bytes(frames[0]) + _data_bytes(others[0]) <= admitted.max_bytes:
            frames, others = [joined(frames[0], others[0])], []
        for frame in (*frames, *others):
            await self.send_frame("inference.admitted", frame, holders)
        for frame in ended.build(self.num_frames, head.now_us, head.memory_sequence):
            await self.send_frame("inference.executed", frame, holders)

    async def send_frame(self, topic: str, frame: InferenceFrame, holders: Sequence[Holder]) -> None:
        """Send one frame, on its own partition's number. Raises RetriableError."""
        self.num_frames += 1
        value = self._codec.encode(topic, frame)
        await self._source.send(self._producer, full_name(topic), value, frame.partition, holders)


def _data_bytes(frame: InferenceFrame) -> int:
    return sum([len(block.data) for segment in frame.segments for block in segment.inputs])
