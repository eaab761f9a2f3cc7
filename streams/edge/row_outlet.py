"""Where an edge's rows leave: frames of rows that passed go to ``inference.admitted``, of ended ones to ``executed``.

A row is held by an entry of its partition's progress, which is finished when every frame of its group is acknowledged.
Rows that ended travel on with the others where the order of their key is kept (``streams/key_order.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from schemas.frame import InferenceFrame
from schemas.quick import replaced
from streams.codec import Codec
from streams.columns import PENDING
from streams.committed import CommittedConsumer, Holder
from streams.edge.column_frames import FrameHead, column_frames, joined
from streams.edge.request_batch import RequestBatch
from streams.edge.steering import Steering
from streams.frame_builder import FrameBuilder, Row
from streams.topics import full_name

UNKNOWN: Final = "unknown_model"
"""Another edge may know the model, and that it is ordered."""


class RowOutlet:
    """Builds and sends frames of one edge process. ``num_frames`` counts them, ``ordered`` are the ordered models.

    ``steering`` chooses their numbers.
    """

    def __init__(
        self,
        source: CommittedConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        memory_sequence: Callable[[], int],
        topic_id: bytes,
        ordered: Callable[[], Collection[str]] = frozenset,
        steering: Steering | None = None,
    ) -> None:
        self.ordered = ordered
        self._steering = Steering() if steering is None else steering
        self._num_left_out = 0
        self.topic_id = topic_id
        self.num_frames = 0
        self._source = source
        self._producer = producer
        self._codec = codec
        self._memory_sequence = memory_sequence

    async def send_rows(self, partition: int, rows: Iterable[Row], holders: Sequence[Holder]) -> None:
        """Send rows of one source partition, each as its error says. Raises RetriableError."""
        await self._send(partition, rows, holders)

    async def send_batch(
        self, batch: RequestBatch, chosen: NDArray[Any], rows: Iterable[Row], holders: Sequence[Holder]
    ) -> None:
        """Send columnar records that passed (ascending indexes), and rows beside them. Raises RetriableError."""
        await self._send(batch.partition, rows, holders, (batch, chosen))

    async def _send(
        self,
        partition: int,
        rows: Iterable[Row],
        holders: Sequence[Holder],
        columnar: tuple[RequestBatch, NDArray[Any]] | None = None,
    ) -> None:
        admitted, ended = FrameBuilder(self.topic_id, partition), FrameBuilder(self.topic_id, partition)
        ordered = self.ordered()
        for row in rows:
            stays = row.error is None or (row.routing_key and (row.model in ordered or row.error.code == UNKNOWN))
            (admitted if stays else ended).add(row)
        head = FrameHead(self.topic_id, partition, time.time_ns() // 1000, self._memory_sequence())
        frames = [] if columnar is None else column_frames(*columnar, head, self._number, ordered=ordered)
        others = admitted.build(self._number + len(frames), head.now_us, head.memory_sequence, ordered)
        if len(frames) == len(others) == 1 and _data_bytes(frames[0]) + _data_bytes(others[0]) <= admitted.max_bytes:
            frames, others = [joined(frames[0], others[0])], []
        for frame in (*frames, *others):
            await self.send_frame("inference.admitted", self._numbered(frame), holders)
        for frame in ended.build(self._number, head.now_us, head.memory_sequence):
            await self.send_frame("inference.executed", frame, holders)

    def _numbered(self, frame: InferenceFrame) -> InferenceFrame:
        """The next frame, with the number that leads to whom it should."""
        items = _items(frame) if self._steering.is_uneven else {}
        number = self._steering.number(self._number, items, frame.created_us)
        self._num_left_out += number - self._number
        return frame if frame.frame_id == number else replaced(frame, frame_id=number)

    @property
    def _number(self) -> int:
        """Of the next frame."""
        return self.num_frames + self._num_left_out

    async def send_frame(self, topic: str, frame: InferenceFrame, holders: Sequence[Holder]) -> None:
        """Send one frame, on its own partition's number. Raises RetriableError."""
        self.num_frames += 1
        value = self._codec.encode(topic, frame)
        await self._source.send(self._producer, full_name(topic), value, frame.partition, holders)


def _data_bytes(frame: InferenceFrame) -> int:
    return sum([len(block.data) for segment in frame.segments for block in segment.inputs])


def _items(frame: InferenceFrame) -> dict[str, int]:
    """How many items of each model are to be executed."""
    pending = np.frombuffer(frame.statuses, np.uint8) == PENDING
    counts = np.frombuffer(frame.row_items, "<u2") * pending
    items: dict[str, int] = {}
    start = 0
    for segment in frame.segments:
        end = start + segment.num_rows
        if count := int(counts[start:end].sum()):
            items[segment.model] = items.get(segment.model, 0) + count
        start = end
    return items
