"""Which blobs may go: those that no retained record can name.

Whoever admits a request touches the blob it names, also when the record is read or sent again. So a blob that was last
touched at t is named only by records of about t and before, and may go once every record of every topic that can name
one is younger than t by ``margin_us``: the largest budget and its grace (a frame is written on while its request
lives) and what the operator adds for clients that store long before they send. Dead letters keep records for far
longer; they are read, and what they name stays.

The broker deletes by segments and lazily, so the log itself is asked for its oldest record, never the settings.
Whatever cannot be learned means that nothing is collected.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.blobs.blob_store import BlobStore, StoredBlob
from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.errors import RetriableError
from streams.provision import topic_partitions
from streams.topics import MIB, TOPICS, full_name

ASK_S: Final = 15.0
STALL_S: Final = 30.0
NAMING: Final = tuple(
    [topic.name for topic in TOPICS.values() if topic.record in ("InferenceRequest", "InferenceFrame")]
)
"""Topics whose records can name blobs; executed frames never do, and are asked all the same."""
LETTERS: Final = "inference.dlq"
_RUN: Final = re.compile(rb"[0-9a-f]{64,}")


class RetentionUnknownError(RetriableError):
    """What the log retains could not be learned, so that nothing may be collected."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"what {self.place} retains is not known ({self.problem}), so no blob is collected"


@dataclass(frozen=True, slots=True)
class Horizon:
    """The time (microseconds since the epoch) before which a blob must have been touched to go, and who sets it.

    ``oldest``: topic-partition of the oldest retained record, empty when nothing is retained.
    """

    cutoff_us: int
    oldest: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection did, or would do: blobs that went, those that letters keep, those younger than the horizon."""

    horizon: Horizon
    removed: tuple[StoredBlob, ...] = ()
    kept_by_letters: tuple[StoredBlob, ...] = ()
    num_younger: int = 0
    num_leftovers: int = 0
    dry_run: bool = False


@dataclass(slots=True)
class Scan:
    """Which of the ``wanted`` digests were seen in the bytes of records; ``found`` are those."""

    wanted: frozenset[str]
    found: set[str] = field(default_factory=set)

    def add(self, value: bytes | None) -> None:
        """Look through a value that need not be a record of ours: anything that reads as a digest counts."""
        for run in _RUN.finditer(value or b""):
            text = run[0].decode()
            self.found.update({text[at : at + 64] for at in range(len(text) - 63)} & self.wanted)


def horizon_of(now_us: int, oldest_us: Mapping[str, int | None], margin_us: int) -> Horizon:
    """The horizon of the oldest retained records by topic-partition; None is an empty one, which bounds nothing."""
    bounds = [(at, place) for place, at in oldest_us.items() if at is not None]
    at, place = min(bounds, default=(now_us, ""))
    return Horizon(min(at, now_us) - margin_us, place)


async def collect(store: BlobStore, connection: Connection, margin_us: int, *, dry_run: bool = False) -> Collection:
    """Remove what may go. Raises RetriableError, before anything went, when it cannot be known what may."""
    now_us = time.time_ns() // 1000
    # In this order: a record that becomes a letter meanwhile is still retained when the oldest records are asked for.
    horizon = horizon_of(now_us, await oldest_records(connection, NAMING), margin_us)
    blobs = await store.blobs()
    old = [blob for blob in blobs if blob.touched_us < horizon.cutoff_us]
    named = await named_by_letters(connection, (blob.digest for blob in old)) if old else frozenset()
    loose = [blob for blob in old if blob.digest not in named]
    removed = loose if dry_run else [blob for blob in loose if await store.remove(blob.digest, horizon.cutoff_us)]
    return Collection(
        horizon,
        tuple(removed),
        tuple(blob for blob in old if blob.digest in named),
        len(blobs) - len(old),
        0 if dry_run else await store.remove_leftovers(),
        dry_run,
    )


async def oldest_records(connection: Connection, topics: Sequence[str]) -> dict[str, int | None]:
    """Timestamp (microseconds) of the first record of each partition, None where there is none, by topic-partition.

    ``topics`` by their short names.

    Raises RetentionUnknownError or UnreachableError.
    """
    places = await _places(connection, topics)
    client = consumer(connection)
    try:
        await start(client, "connecting to ask what is retained", ASK_S)
        found: dict[str, int | None] = {}
        for topic, its in places.items():
            found |= await _oldest(client, topic, its)
        return found
    except KafkaError as error:
        raise UnreachableError("asking what is retained", str(error) or type(error).__name__) from error
    finally:
        await stop_quietly(client)


async def _oldest(client: Any, topic: str, places: list[TopicPartition]) -> dict[str, int | None]:
    # In this order: what is between start and end stood there all the time, and must have a time.
    ends = await bounded(client.end_offsets(places), ASK_S, f"asking where {topic} ends")
    stamps = await bounded(client.offsets_for_times(dict.fromkeys(places, 0)), ASK_S, f"asking how old {topic} is")
    first = await bounded(client.beginning_offsets(places), ASK_S, f"asking where {topic} begins")
    found: dict[str, int | None] = {}
    for place in places:
        name, stamp = f"{topic}-{place.partition}", stamps.get(place)
        if (
            stamp is None
            and first[place] < ends[place]
            and await _has_records(client, place, first[place], ends[place])
        ):
            raise RetentionUnknownError(name, "it has records, and the broker names no time")
        if stamp is not None and stamp.timestamp < 0:
            raise RetentionUnknownError(name, "its oldest record has no time")
        found[name] = None if stamp is None else stamp.timestamp * 1000
    return found


async def _has_records(client: Any, place: TopicPartition, first: int, end: int) -> bool:
    """Whether more than markers of transactions stands between two offsets."""
    client.assign([place])
    client.seek(place, first)
    until = time.monotonic() + ASK_S
    while await client.position(place) < end:
        if await bounded(client.getmany(place, timeout_ms=500, max_records=1), ASK_S, f"reading {place.topic}"):
            return True
        if time.monotonic() > until:
            raise RetentionUnknownError(f"{place.topic}-{place.partition}", f"nothing was read for {ASK_S:g} s")
    return False


async def _places(connection: Connection, topics: Sequence[str]) -> dict[str, list[TopicPartition]]:
    """The partitions that the cluster has now, by full topic name."""
    found = await topic_partitions(connection, topics)
    missing = [topic for topic in topics if not found.get(topic)]
    if missing:
        raise RetentionUnknownError(full_name(missing[0]), "the broker has no such topic")
    return {
        full_name(topic): [TopicPartition(full_name(topic), number) for number in range(found[topic])]
        for topic in topics
    }


async def named_by_letters(connection: Connection, digests: Iterable[str]) -> frozenset[str]:
    """Those of the digests that a dead letter names. Raises RetentionUnknownError or UnreachableError."""
    scan = Scan(frozenset(digests))
    places = (await _places(connection, [LETTERS]))[full_name(LETTERS)]
    client = consumer(connection, max_partition_fetch_bytes=8 * MIB)
    try:
        await start(client, "connecting to read the dead letters", ASK_S)
        client.assign(places)
        first = await bounded(client.beginning_offsets(places), ASK_S, "asking where the dead letters begin")
        ends = await bounded(client.end_offsets(places), ASK_S, "asking where the dead letters end")
        for place in places:
            client.seek(place, first[place])
        await _scan(client, ends, scan)
    except KafkaError as error:
        raise UnreachableError("reading the dead letters", str(error) or type(error).__name__) from error
    finally:
        await stop_quietly(client)
    return frozenset(scan.found)


async def _scan(client: Any, ends: Mapping[TopicPartition, int], scan: Scan) -> None:
    heard = time.monotonic()
    while True:
        left = [place for place, end in ends.items() if await client.position(place) < end]
        if not left:
            return
        batches = await bounded(client.getmany(*left, timeout_ms=500, max_records=500), STALL_S, "reading dead letters")
        for records in batches.values():
            for record in records:
                scan.add(record.value)
        now = time.monotonic()
        heard = now if batches else heard
        if now - heard > STALL_S:
            raise RetentionUnknownError(full_name(LETTERS), f"no letter arrived for {STALL_S:g} s")
