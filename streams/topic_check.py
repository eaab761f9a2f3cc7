"""Compare the topics of a broker with the table, setting by setting; put settings right that differ.

Only settings are ever altered, and only when asked: a number of partitions carries the identity of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not marked as exported
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams.connection import Connection
from streams.provision import ALL, partition_count, topic_settings
from streams.topic_admin import admin_client, describe_topics, results_of
from streams.topics import full_name

PARTITIONS: Final = "partitions"
TOGETHER: Final = tuple(name for name, topic in ALL.items() if topic.partitions == "requests")
"""Topics that always have the same number of partitions."""


@dataclass(frozen=True, slots=True)
class TopicFault:
    """One setting of a topic (short name) that is not as the table has it; ``partitions`` is their number."""

    topic: str
    setting: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{full_name(self.topic)} has {self.setting} = {self.found}, expected is {self.expected}"


@dataclass(frozen=True, slots=True)
class TopicCheck:
    """What a broker has: topics that are missing, what differs, and the number of partitions by short name."""

    missing: tuple[str, ...]
    faults: tuple[TopicFault, ...]
    partitions: Mapping[str, int]

    @property
    def apart(self) -> dict[str, int]:
        """Numbers of partitions of the topics that must have the same, when they do not."""
        counts = {name: self.partitions[name] for name in TOGETHER if name in self.partitions}
        return counts if len(set(counts.values())) > 1 else {}


async def check_topics(connection: Connection, *, partitions: int, lanes: int) -> TopicCheck:
    """Ask for every topic and all its settings. Raises UnreachableError, TimedOutError."""
    return await asyncio.to_thread(_check, connection, partitions, lanes)


async def repair_topics(connection: Connection, faults: Sequence[TopicFault]) -> None:
    """Set what differs to what the table has; faults in the number of partitions are passed over."""
    await asyncio.to_thread(_repair, connection, faults)


def _check(connection: Connection, partitions: int, lanes: int) -> TopicCheck:
    admin = admin_client(connection)
    found = describe_topics(admin, ALL)
    counts = {name: len(topic.partitions) for name, topic in found.items()}
    faults: list[TopicFault] = []
    for name, settings in _configs(admin, found).items():
        topic = ALL[name]
        wanted = partition_count(topic, partitions, lanes)
        # Lanes grow with the setting and never shrink: more than asked for is as good.
        if counts[name] < wanted or (counts[name] > wanted and topic.partitions != "lanes"):
            faults.append(TopicFault(name, PARTITIONS, str(counts[name]), str(wanted)))
        faults += [
            TopicFault(name, setting, str(settings.get(setting)), value)
            for setting, value in topic_settings(topic).items()
            if settings.get(setting) != value
        ]
    return TopicCheck(tuple(name for name in ALL if name not in found), tuple(faults), counts)


def _configs(admin: object, found: Mapping[str, object]) -> dict[str, dict[str, str]]:
    if not found:
        return {}
    resources = {ConfigResource(ResourceType.TOPIC, full_name(name)): name for name in found}
    futures = admin.describe_configs(list(resources))  # type: ignore[attr-defined]
    done = results_of("reading the topics' settings", {resources[key]: future for key, future in futures.items()})
    return {name: {setting: entry.value for setting, entry in done[name].items()} for name in found}


def _repair(connection: Connection, faults: Sequence[TopicFault]) -> None:
    wanted: dict[str, list[ConfigEntry]] = {}
    for fault in faults:
        if fault.setting != PARTITIONS:
            entry = ConfigEntry(fault.setting, fault.expected, incremental_operation=AlterConfigOpType.SET)
            wanted.setdefault(full_name(fault.topic), []).append(entry)
    if wanted:
        resources = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in wanted.items()
        ]
        admin = admin_client(connection)  # held: its going away would fail the futures
        futures = admin.incremental_alter_configs(resources)
        results_of("repairing the topics' settings", {resource.name: future for resource, future in futures.items()})
