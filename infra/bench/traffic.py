"""Records and bytes per topic of the data plane between two looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka as ck

from infra.settings import Settings
from streams.topics import full_name

TOPICS: Final = tuple(
    f"inference.{name}" for name in ("requests", "admitted", "routed", "executed", "results", "ledger-checkpoints")
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sums of end offsets per topic, and bytes in its segments (None where the broker's folder is not ours)."""

    ends: Mapping[str, int]
    sizes: Mapping[str, int | None]


def looked(settings: Settings, topics: tuple[str, ...] = TOPICS) -> Traffic:
    """Look at the topics now."""
    consumer = ck.Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "isos-bench-traffic"})
    folder = settings.data_dir / "kafka" / "log"
    try:
        ends = {topic: _end(consumer, full_name(topic)) for topic in topics}
    finally:
        consumer.close()
    return Traffic(ends, {topic: segment_bytes(folder, full_name(topic)) for topic in topics})


def segment_bytes(folder: Path, topic: str) -> int | None:
    """Bytes of a topic's segments in a broker's log folder; None when it is not there."""
    files = [path for part in folder.glob(f"{topic}-*") for path in part.glob("*.log")]
    return sum(path.stat().st_size for path in files) if files else None


def traffic_rows(before: Traffic, after: Traffic, seconds: float) -> list[dict[str, Any]]:
    """Records and bytes a second, and bytes a record, of each topic; transaction markers count as records."""
    rows = []
    for topic, end in after.ends.items():
        records = end - before.ends.get(topic, 0)
        sizes = before.sizes.get(topic), after.sizes.get(topic)
        size = None if sizes[0] is None or sizes[1] is None else sizes[1] - sizes[0]
        rows.append({
            "topic": topic,
            "records_s": round(records / seconds, 1),
            "kb_s": None if size is None else round(size / seconds / 1e3, 1),
            "bytes_per_record": None if size is None or not records else round(size / records),
        })  # fmt: skip
    return rows


def _end(consumer: ck.Consumer, topic: str) -> int:
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    return sum(consumer.get_watermark_offsets(ck.TopicPartition(topic, number), timeout=10)[1] for number in partitions)
