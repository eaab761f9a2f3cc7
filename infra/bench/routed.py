"""Count the rows that were routed to executors, on ``inference.routed`` itself."""

from __future__ import annotations

from typing import Any, Final

import confluent_kafka as ck

from streams.codec import PREFIX_BYTES
from streams.columns import PENDING
from streams.frame_codec import decode_frame
from streams.topics import full_name

TOPIC: Final = full_name("inference.routed")
GIVE_UP_POLLS: Final = 30


def routed_ends(bootstrap: str, topic: str = TOPIC) -> dict[int, int]:
    """The end offset of each partition, now."""
    consumer = _consumer(bootstrap)
    try:
        return _ends(consumer, topic)
    finally:
        consumer.close()


def count_routed_rows(bootstrap: str, since: dict[int, int], topic: str = TOPIC) -> int:
    """Rows left to execute in the frames written since ``since`` (offset per partition) until now."""
    consumer = _consumer(bootstrap)
    try:
        ends = _ends(consumer, topic)
        left = {partition for partition, end in ends.items() if end > since.get(partition, 0)}
        consumer.assign([ck.TopicPartition(topic, partition, since.get(partition, 0)) for partition in sorted(left)])
        rows, silent = 0, 0
        while left and silent < GIVE_UP_POLLS:
            message = consumer.poll(1.0)
            if message is None:
                silent += 1
                continue
            silent = 0
            error, partition, offset = message.error(), message.partition(), message.offset()
            if partition is None or (error is not None and error.code() != ck.KafkaError._PARTITION_EOF):
                continue
            if error is not None or offset is None or offset >= ends[partition]:
                left.discard(partition)
                continue
            value: Any = message.value()
            rows += decode_frame(value, PREFIX_BYTES).statuses.count(PENDING)
            if offset == ends[partition] - 1:
                left.discard(partition)
        return rows
    finally:
        consumer.close()


def _ends(consumer: ck.Consumer, topic: str) -> dict[int, int]:
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    return {
        number: consumer.get_watermark_offsets(ck.TopicPartition(topic, number), timeout=10)[1] for number in partitions
    }


def _consumer(bootstrap: str) -> ck.Consumer:
    return ck.Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "isos-bench-routed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,  # the last offsets may be transaction markers
    })  # fmt: skip
