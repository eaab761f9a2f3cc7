"""The schema registry as a fold of the compacted ``_schemas`` topic, in the format Confluent's registry writes.

Keys are JSON: ``{"keytype":"SCHEMA","subject","version","magic":1}``; values ``{"subject","version","id","schema",
"deleted"}`` or a tombstone. DELETE_SUBJECT hides versions; CONFIG and MODE set a subject's compatibility level and
mode, or with no subject everybody's. What is unknown is passed over. Ids are dense from 1, and one normalised schema
has one id in all subjects. HIGHEST_ID is our own: the highest id in use before versions were deleted for good, so that
no id is ever given out twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from aiokafka import TopicPartition

from streams.codec import SCHEMA_TEXTS, RegisteredSchema, SchemaIds, normal_text, subject_of
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.registry.schema_text import SchemaRefusedError, lint, normalise
from streams.topics import SCHEMAS_TOPIC, TOPICS

READ_TIMEOUT_S: Final = 15.0
MAX_ID: Final = (1 << 31) - 1
PARTITION: Final = TopicPartition(SCHEMAS_TOPIC, 0)


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of a subject: its id, text as registered, normalised text, and whether it is deleted."""

    subject: str
    version: int
    schema_id: int
    text: str
    normal: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class SchemaLog:
    """State of the schema log: versions by subject and number. Frozen; ``fold`` gives a new one."""

    versions: Mapping[tuple[str, int], SchemaVersion] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)
    """Compatibility level by subject, as set; "" is everybody's."""
    modes: Mapping[str, str] = field(default_factory=dict)
    """Mode by subject, as set; "" is everybody's."""
    highest_id: int = 0

    def subjects(self, *, deleted: bool = False) -> list[str]:
        """Names of the subjects that have a live version, or with ``deleted`` any, sorted."""
        return sorted({subject for (subject, _), found in self.versions.items() if deleted or not found.deleted})

    def of(self, subject: str, *, deleted: bool = False) -> list[SchemaVersion]:
        """Live versions of a subject, or with ``deleted`` all, oldest first."""
        found = (
            entry for (name, _), entry in self.versions.items() if name == subject and (deleted or not entry.deleted)
        )
        return sorted(found, key=lambda entry: entry.version)

    def by_id(self, schema_id: int) -> list[SchemaVersion]:
        """Every version with this id, deleted ones too: their records stay readable."""
        found = (entry for entry in self.versions.values() if entry.schema_id == schema_id)
        return sorted(found, key=lambda entry: (entry.subject, entry.version))

    def find(self, subject: str, text: str) -> SchemaVersion | None:
        """Live version of a subject with the same schema, however it is spelled; SchemaRefusedError for no schema."""
        normal = normalise(text)
        return next((entry for entry in reversed(self.of(subject)) if entry.normal == normal), None)

    def id_of(self, normal: str) -> int | None:
        """Id that a normalised schema has in any subject."""
        return next((entry.schema_id for entry in self.versions.values() if entry.normal == normal), None)

    @property
    def next_id(self) -> int:
        """The id that the next new schema gets."""
        return 1 + max(self.highest_id, max((entry.schema_id for entry in self.versions.values()), default=0))


@lru_cache(maxsize=1_024)
def _normal(text: str) -> str:
    try:
        return normalise(text)
    except SchemaRefusedError:
        return text


def _json(data: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(data) if data else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def fold(log: SchemaLog, records: Iterable[tuple[bytes | None, bytes | None]]) -> SchemaLog:
    """The log after more (key, value) records; what it does not know, it passes over."""
    versions, levels, modes, highest_id = dict(log.versions), dict(log.levels), dict(log.modes), log.highest_id
    for raw_key, raw_value in records:
        key, value = _json(raw_key), _json(raw_value)
        kind = None if key is None else key.get("keytype")
        if key is None or kind is None:
            continue
        if kind == "SCHEMA" and isinstance(key.get("version"), int):
            _fold_schema(versions, (str(key.get("subject")), key["version"]), value)
        elif kind == "DELETE_SUBJECT" and value is not None:
            _hide(versions, value)
        elif kind == "CONFIG":
            _fold_setting(levels, key, value, "compatibilityLevel")
        elif kind == "MODE":
            _fold_setting(modes, key, value, "mode")
        elif kind == "HIGHEST_ID" and value is not None and isinstance(value.get("id"), int):
            highest_id = max(highest_id, value["id"])
    return SchemaLog(versions, levels, modes, highest_id)


def _hide(versions: dict[tuple[str, int], SchemaVersion], value: dict[str, Any]) -> None:
    up_to = value.get("version")
    for name, entry in list(versions.items()):
        if isinstance(up_to, int) and name[0] == value.get("subject") and name[1] <= up_to:
            versions[name] = replace(entry, deleted=True)


def _fold_setting(settings: dict[str, str], key: dict[str, Any], value: dict[str, Any] | None, name: str) -> None:
    subject = str(key.get("subject") or "")
    settings.pop(subject, None)
    if value is not None and isinstance(value.get(name), str):
        settings[subject] = value[name]


def _fold_schema(
    versions: dict[tuple[str, int], SchemaVersion], at: tuple[str, int], value: dict[str, Any] | None
) -> None:
    if value is None:
        versions.pop(at, None)
        return
    text, schema_id = value.get("schema"), value.get("id")
    if not isinstance(text, str) or value.get("schemaType", "AVRO") != "AVRO":
        return
    if isinstance(schema_id, int) and 0 < schema_id <= MAX_ID:
        versions[at] = SchemaVersion(*at, schema_id, text, _normal(text), bool(value.get("deleted", False)))


def schema_record(entry: SchemaVersion) -> tuple[bytes, bytes]:
    """Key and value of the record that registers a version, or with ``deleted`` hides it."""
    value = {
        "subject": entry.subject,
        "version": entry.version,
        "id": entry.schema_id,
        "schema": entry.text,
        "deleted": entry.deleted,
    }
    return _compact(_schema_key(entry)), _compact(value)


def erased_record(entry: SchemaVersion) -> tuple[bytes, None]:
    """Key and tombstone that delete a version for good."""
    return _compact(_schema_key(entry)), None


def hidden_record(subject: str, up_to: int) -> tuple[bytes, bytes]:
    """Key and value of the record that hides the versions of a subject up to a number."""
    key = {"keytype": "DELETE_SUBJECT", "subject": subject, "magic": 0}
    return _compact(key), _compact({"subject": subject, "version": up_to})


def level_record(subject: str, level: str | None) -> tuple[bytes, bytes | None]:
    """Record that sets the compatibility level of a subject ("": everybody's), or with None unsets it."""
    key = {"keytype": "CONFIG", "subject": subject or None, "magic": 0}
    return _compact(key), None if level is None else _compact({"compatibilityLevel": level})


def mode_record(subject: str, mode: str | None) -> tuple[bytes, bytes | None]:
    """Record that sets the mode of a subject ("": everybody's), or with None unsets it."""
    key = {"keytype": "MODE", "subject": subject or None, "magic": 0}
    return _compact(key), None if mode is None else _compact({"mode": mode})


def highest_id_record(highest_id: int) -> tuple[bytes, bytes]:
    """Record that keeps every id up to ``highest_id`` from being given out again."""
    return _compact({"keytype": "HIGHEST_ID", "magic": 0}), _compact({"id": highest_id})


def _schema_key(entry: SchemaVersion) -> dict[str, Any]:
    return {"keytype": "SCHEMA", "subject": entry.subject, "version": entry.version, "magic": 1}


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def missing(log: SchemaLog) -> list[SchemaVersion]:
    """Versions that must be added so that every topic has our schema; empty when all are registered."""
    added: list[SchemaVersion] = []
    for topic in TOPICS.values():
        if topic.record is None:
            continue
        subject, normal = subject_of(topic.name), normal_text(topic.record)
        if any(entry.normal == normal for entry in log.of(subject)):
            continue
        used = [version for (name, version) in log.versions if name == subject]
        schema_id = log.id_of(normal)
        text = compact_text(SCHEMA_TEXTS[topic.record])
        new_id = schema_id if schema_id is not None else log.next_id
        entry = SchemaVersion(subject, 1 + max(used, default=0), new_id, text, normal)
        log = replace(log, versions={**log.versions, (subject, entry.version): entry})
        added.append(entry)
    return added


def compact_text(text: str) -> str:
    """The schema in one line, order and documentation kept."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


def schema_ids(log: SchemaLog) -> SchemaIds:
    """What codecs need: our ids for writing, and every schema; those of our subjects, which may be read with, linted.

    Strangers' schemas are not looked at: however many there are, a new one costs our processes next to nothing.
    """
    ours = {subject_of(topic.name): normal_text(topic.record) for topic in TOPICS.values() if topic.record is not None}
    write: dict[str, SchemaVersion] = {}
    by_id: dict[int, RegisteredSchema] = {}
    for version in log.versions.values():
        normal, known = ours.get(version.subject), by_id.get(version.schema_id)
        subjects = frozenset({version.subject}) | (known.subjects if known else frozenset())
        linted = known.normal if known and known.normal else "" if normal is None else _linted(version.text)
        by_id[version.schema_id] = RegisteredSchema(version.schema_id, version.text, linted, subjects)
        # A hidden version still serves: whoever hid it must not stop the processes that write with it.
        if normal == version.normal and _is_better(version, write.get(version.subject)):
            write[version.subject] = version
    return SchemaIds({subject: version.schema_id for subject, version in write.items()}, by_id)


def _is_better(version: SchemaVersion, than: SchemaVersion | None) -> bool:
    return than is None or (version.deleted, version.version) < (than.deleted, than.version)


@lru_cache(maxsize=1_024)
def _linted(text: str) -> str:
    try:
        return lint(text)
    except SchemaRefusedError:
        return ""


async def read_schema_log(connection: Connection, timeout_s: float = READ_TIMEOUT_S) -> SchemaLog:
    """Read ``_schemas`` to its end as of now. Raises TimedOutError or UnreachableError."""
    client = consumer(connection)
    await start(client, "connecting to read the schemas")
    try:
        return await bounded(_read_to_end(client), timeout_s, "reading the schemas")
    finally:
        await stop_quietly(client)


async def _read_to_end(client: Any) -> SchemaLog:
    client.assign([PARTITION])
    await client.seek_to_beginning(PARTITION)
    end = (await client.end_offsets([PARTITION]))[PARTITION]
    log = SchemaLog()
    # The position, not the last record's offset, is compared: the log may end in a marker.
    while await client.position(PARTITION) < end:
        batches = await client.getmany(PARTITION, timeout_ms=100)
        log = fold(log, ((record.key, record.value) for record in batches.get(PARTITION, ())))
    return log


async def read_schema_ids(connection: Connection, timeout_s: float = READ_TIMEOUT_S) -> SchemaIds:
    """Ids for a codec, from the schema log as of now."""
    return schema_ids(await read_schema_log(connection, timeout_s))
