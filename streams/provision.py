"""Create every topic with its settings, check those that exist, register the schemas.

Repeating it changes nothing. A topic that exists with other settings or another number of partitions is never altered:
partitions carry the identity of requests, so a person decides (``streams/growth.py``). Lanes and journals do not: they
are added when more are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not marked as exported
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from streams.codec import SchemaIds
from streams.connection import Connection
from streams.errors import InvariantError, IsosError, RetriableError
from streams.fenced import FencedWriter
from streams.registry.schema_log import missing, read_schema_log, schema_ids, schema_record
from streams.topic_admin import ADMIN_TIMEOUT_S, POLL_S, admin_client, describe_topics, results_of, until, uuid_bytes
from streams.topics import DAY_MS, FOREVER, HOUR_MS, MIB, SCHEMAS_TOPIC, TOPICS, Topic, full_name

CLAIMS: Final = 5
JOURNAL: Final = "control.journal"
SCHEMAS: Final = Topic(
    SCHEMAS_TOPIC,
    None,
    1,
    "compact",
    FOREVER,
    ("provision", "registry"),
    ("everybody",),
    fenced=True,
    segment_bytes=16 * MIB,
)
ALL: Final[dict[str, Topic]] = {**TOPICS, SCHEMAS_TOPIC: SCHEMAS}


class ProvisionError(IsosError):
    """Topics exist with other settings than ours; ``differences`` holds one sentence each."""

    def __init__(self, differences: tuple[str, ...]) -> None:
        super().__init__(differences)
        self.differences = differences

    def __str__(self) -> str:
        return "; ".join(self.differences)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Outcome: topic ids (16 bytes) by short name, what was created, how many schema versions were added, the ids."""

    topic_ids: Mapping[str, bytes]
    created: tuple[str, ...]
    num_registered: int
    schema_ids: SchemaIds


def partition_count(topic: Topic, partitions: int, lanes: int) -> int:
    """Number of partitions of a topic under the two settings."""
    return (
        {"requests": partitions, "lanes": lanes}[topic.partitions]
        if isinstance(topic.partitions, str)
        else (topic.partitions)
    )


def topic_settings(topic: Topic) -> dict[str, str]:
    """Settings of a topic by Kafka's names."""
    settings = {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": str(topic.retention_bytes),
        "segment.bytes": str(topic.segment_bytes),
        "max.message.bytes": str(topic.max_record_bytes + 64 * 1024),  # the largest record and its batch header
        "min.insync.replicas": "1",
        "message.timestamp.type": "LogAppendTime" if topic.log_append_time else "CreateTime",
        "unclean.leader.election.enable": "false",
    }
    if "clients" in topic.writers:
        # Any codec of a client's choice is unpacked by the broker, and refused there when that makes it too large.
        settings["compression.type"] = "uncompressed"
    if topic.cleanup == "compact":
        settings |= {
            "min.cleanable.dirty.ratio": "0.1",
            "segment.bytes": str(min(topic.segment_bytes, 16 * MIB)),  # the active segment is never compacted
            "segment.ms": str(HOUR_MS),
            "delete.retention.ms": str(DAY_MS),
        }
    return settings


async def provision(connection: Connection, *, partitions: int, lanes: int, replication: int = 1) -> Provisioned:
    """Create what is missing, check what exists, register our schemas; returns once every topic is there to be used.

    Raises ProvisionError for differences, RetriableError when the brokers do not answer.
    """
    created = await asyncio.to_thread(_topics, connection, partitions, lanes, replication)
    num_registered, ids = await register_schemas(connection)
    return Provisioned(await topic_ids(connection, ALL), created, num_registered, ids)


async def register_schemas(connection: Connection) -> tuple[int, SchemaIds]:
    """Add our schemas that the log lacks; returns how many and the ids. Shares the log with registries that write."""
    for attempt in range(1, CLAIMS + 1):
        log = await read_schema_log(connection)
        if not missing(log):
            return 0, schema_ids(log)
        try:
            return await _register(connection)
        except RetriableError:
            if attempt == CLAIMS:
                raise
            await asyncio.sleep(POLL_S * attempt)  # another writer took the log over, or died: claim again
    raise InvariantError("unreachable")


async def _register(connection: Connection) -> tuple[int, SchemaIds]:
    writer = await FencedWriter.claim(connection, SCHEMAS_TOPIC, 0)
    try:
        added = missing(await read_schema_log(connection))  # again: another one may have written before the claim
        if added:
            records = [(key, value, ()) for key, value in map(schema_record, added)]
            await writer.confirm(await writer.submit(records))
    finally:
        await writer.stop()
    return len(added), schema_ids(await read_schema_log(connection))


async def topic_ids(connection: Connection, names: Iterable[str]) -> dict[str, bytes]:
    """Topic id (the UUID's 16 bytes, big-endian) by short name; waits a bounded time for topics just created."""
    return await asyncio.to_thread(_topic_ids, connection, tuple(names))


async def add_partitions(connection: Connection, name: str, count: int) -> None:
    """Give the topic ``count`` partitions in all, and return when the broker shows them; having them is no error.

    ``name`` is short. Raises RetriableError when the broker does not answer or refuses.
    """
    await asyncio.to_thread(_add_partitions, connection, name, count)


async def topic_partitions(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Number of partitions by short name, for topics that exist."""
    found = await asyncio.to_thread(describe_topics, admin_client(connection), tuple(names))
    return {name: len(topic.partitions) for name, topic in found.items()}


def differences(name: str, wanted: Mapping[str, str], found: Mapping[str, str], counts: tuple[int, int]) -> list[str]:
    """One sentence per setting of an existing topic that is not as wanted; ``counts`` are partitions wanted, found."""
    out = []
    if counts[0] != counts[1]:
        remedy = (
            f"`isos topics grow --partitions {counts[0]}` adds some"
            if counts[1] < counts[0]
            else f"none can be taken away: set partitions to {counts[1]}"
        )
        out.append(f"topic {name} has {counts[1]} partitions, the settings ask for {counts[0]}; {remedy}")
    for setting, value in wanted.items():
        if found.get(setting) != value:
            out.append(f"topic {name} has {setting} = {found.get(setting)}, this program needs {value}")
    return out


def _topics(connection: Connection, partitions: int, lanes: int, replication: int) -> tuple[str, ...]:
    admin = admin_client(connection)
    existing = describe_topics(admin, ALL)
    wrong = _differences(admin, existing, partitions, lanes)
    if wrong:
        raise ProvisionError(tuple(wrong))
    _grow(admin, existing, partitions, lanes)
    new = [
        NewTopic(
            topic.full_name,
            num_partitions=partition_count(topic, partitions, lanes),
            replication_factor=replication,
            config=topic_settings(topic),
        )
        for name, topic in ALL.items()
        if name not in existing
    ]
    if new:
        futures = admin.create_topics(new, operation_timeout=ADMIN_TIMEOUT_S, request_timeout=ADMIN_TIMEOUT_S)
        results_of("creating the topics", futures, (KafkaError.TOPIC_ALREADY_EXISTS,))
        until(lambda: len(describe_topics(admin, ALL)) == len(ALL), "waiting for the new topics")
    return tuple(name for name in ALL if name not in existing)


def _grow(admin: AdminClient, existing: Mapping[str, Any], partitions: int, lanes: int) -> None:
    """Give the topics that may grow the partitions they lack."""
    more = [
        NewPartitions(full_name(name), partition_count(ALL[name], partitions, lanes))
        for name, found in existing.items()
        if may_grow(ALL[name]) and len(found.partitions) < partition_count(ALL[name], partitions, lanes)
    ]
    if more:
        results_of("adding partitions", admin.create_partitions(more, operation_timeout=ADMIN_TIMEOUT_S))


def may_grow(topic: Topic) -> bool:
    """Whether partitions are added, and more than are asked for may stand.

    A lane is no part of a request's identity; a partition of the journal is an agent's, and agents are only added.
    """
    return topic.partitions == "lanes" or topic.name == JOURNAL


def _add_partitions(connection: Connection, name: str, count: int) -> None:
    admin = admin_client(connection)
    more = [NewPartitions(full_name(name), count)]
    futures = admin.create_partitions(more, operation_timeout=ADMIN_TIMEOUT_S, request_timeout=ADMIN_TIMEOUT_S)
    # Another one, or an attempt whose answer was lost, may have added them meanwhile.
    results_of(f"adding partitions to {full_name(name)}", futures, (KafkaError.INVALID_PARTITIONS,))
    until(
        lambda: len(describe_topics(admin, [name])[name].partitions) >= count,
        f"waiting for {count} partitions of {name}",
    )


def _differences(admin: AdminClient, existing: Mapping[str, Any], partitions: int, lanes: int) -> list[str]:
    if not existing:
        return []
    resources = {ConfigResource(ResourceType.TOPIC, full_name(name)): name for name in existing}
    futures = {resources[key]: future for key, future in admin.describe_configs(list(resources)).items()}
    configs = results_of("reading the topics' settings", futures)
    out: list[str] = []
    for name, found in configs.items():
        topic = ALL[name]
        have = len(existing[name].partitions)
        counts = (have if may_grow(topic) else partition_count(topic, partitions, lanes), have)
        values = {setting: entry.value for setting, entry in found.items()}
        out += differences(topic.full_name, topic_settings(topic), values, counts)
    return out


def _topic_ids(connection: Connection, names: tuple[str, ...]) -> dict[str, bytes]:
    admin = admin_client(connection)
    until(lambda: len(describe_topics(admin, names)) == len(names), "waiting for the topics")
    return {name: uuid_bytes(topic.topic_id) for name, topic in describe_topics(admin, names).items()}
