"""What a schema registry answers, as pure functions of the schema log; what it changes is in ``registry_changes``.

What is refused raises RegistryError with the numbers that clients of Confluent's registry know. A subject of ours (the
values of one of our topics) is held to FULL_TRANSITIVE until somebody sets another level; all other subjects are
BACKWARD by default, as strangers expect.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Final

from streams.codec import subject_of
from streams.errors import IsosError
from streams.registry.compatibility import check_schema, problems
from streams.registry.schema_log import SchemaLog, SchemaVersion
from streams.registry.schema_text import SchemaRefusedError, normalise
from streams.topics import TOPICS

DEFAULT_LEVEL: Final = "BACKWARD"
OUR_LEVEL: Final = "FULL_TRANSITIVE"
MODES: Final = ("READWRITE", "READONLY")
EVERYBODY: Final = ""
LATEST: Final = -1

SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402
SCHEMA_NOT_FOUND: Final = 40403
SUBJECT_DELETED: Final = 40404
SUBJECT_NOT_DELETED: Final = 40405
VERSION_DELETED: Final = 40406
VERSION_NOT_DELETED: Final = 40407
NO_LEVEL: Final = 40408
NO_MODE: Final = 40409
INCOMPATIBLE: Final = 409
INVALID_SCHEMA: Final = 42201
INVALID_VERSION: Final = 42202
INVALID_LEVEL: Final = 42203
INVALID_MODE: Final = 42204
NOT_PERMITTED: Final = 42205
INVALID_SUBJECT: Final = 42208

OUR_RECORDS: Final[dict[str, str]] = {
    subject_of(topic.name): topic.record for topic in TOPICS.values() if topic.record is not None
}


class RegistryError(IsosError):
    """A refused request: HTTP status, the registry's error code and one sentence."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def is_ours(subject: str) -> bool:
    """Whether a subject is that of one of our topics."""
    return subject in OUR_RECORDS


def guid_of(entry: SchemaVersion) -> str:
    """Identifier of a schema that every registry over this log computes alike: from its normalised text."""
    return str(uuid.UUID(bytes=hashlib.sha256(entry.normal.encode()).digest()[:16], version=5))


def versions_of(log: SchemaLog, subject: str, *, deleted: bool = False) -> list[SchemaVersion]:
    """Versions of a subject, oldest first, hidden ones if asked for; 40401 when there is none."""
    found = log.of(subject, deleted=deleted)
    if not found:
        raise RegistryError(404, SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
    return found


def version_of(log: SchemaLog, subject: str, wanted: str, *, deleted: bool = False) -> SchemaVersion:
    """Version of a subject by number, ``latest`` or -1; 40401, 40402 or 42202."""
    found = versions_of(log, subject, deleted=deleted)
    number = LATEST if wanted == "latest" else int(wanted) if _is_number(wanted) else 0
    if number == LATEST:
        return found[-1]
    if not 1 <= number < 1 << 31:
        message = f"The specified version '{wanted}' is not a valid version id: a number from 1 on, or 'latest'."
        raise RegistryError(422, INVALID_VERSION, message)
    for entry in found:
        if entry.version == number:
            return entry
    raise RegistryError(404, VERSION_NOT_FOUND, f"Version {number} not found.")


def schema_of(log: SchemaLog, wanted: str) -> list[SchemaVersion]:
    """Every version with an id, hidden ones too; 40403 when there is none."""
    found = log.by_id(int(wanted)) if _is_number(wanted) else []
    if not found:
        raise RegistryError(404, SCHEMA_NOT_FOUND, f"Schema {wanted} not found")
    return found


def schema_by_guid(log: SchemaLog, wanted: str) -> SchemaVersion:
    """The schema with an identifier; 40403 when there is none."""
    for entry in log.versions.values():
        if guid_of(entry) == wanted.lower():
            return entry
    raise RegistryError(404, SCHEMA_NOT_FOUND, f"Schema {wanted} not found")


def find_schema(log: SchemaLog, subject: str, text: str, *, deleted: bool = False) -> SchemaVersion:
    """Version of a subject with the same schema, however it is spelled; 40401, 40403 or 42201."""
    normal = _normalised(text)
    for entry in reversed(versions_of(log, subject, deleted=deleted)):
        if entry.normal == normal:
            return entry
    raise RegistryError(404, SCHEMA_NOT_FOUND, "Schema not found")


def level_of(log: SchemaLog, subject: str) -> str:
    """Compatibility level that holds for a subject: its own, else ours or everybody's."""
    if subject in log.levels:
        return log.levels[subject]
    return OUR_LEVEL if is_ours(subject) else log.levels.get(EVERYBODY, DEFAULT_LEVEL)


def level_set(log: SchemaLog, subject: str) -> str:
    """Level of a subject itself, of ours even when nobody set one; 40408 when it has none."""
    if subject in log.levels or is_ours(subject) or subject == EVERYBODY:
        return level_of(log, subject)
    message = f"Subject '{subject}' does not have subject-level compatibility configured"
    raise RegistryError(404, NO_LEVEL, message)


def mode_of(log: SchemaLog, subject: str) -> str:
    """Mode that holds for a subject: its own, else everybody's."""
    return log.modes.get(subject, log.modes.get(EVERYBODY, MODES[0]))


def mode_set(log: SchemaLog, subject: str) -> str:
    """Mode of a subject itself; 40409 when it has none."""
    if subject in log.modes or subject == EVERYBODY:
        return mode_of(log, subject)
    raise RegistryError(404, NO_MODE, f"Subject '{subject}' does not have subject-level mode configured")


def incompatibilities(log: SchemaLog, subject: str, text: str, versions: Sequence[SchemaVersion]) -> tuple[str, ...]:
    """Why a schema may not follow these versions of a subject at its level; 42201 for no schema."""
    checked(text)
    level = level_of(log, subject)
    if level == "NONE":
        return ()
    try:
        return problems(text, [(entry.version, entry.text) for entry in versions], level)
    except SchemaRefusedError as error:
        raise RegistryError(422, INVALID_SCHEMA, f"An earlier version cannot be compared with: {error}") from None


def _is_number(wanted: str) -> bool:
    return wanted.removeprefix("-").isascii() and wanted.removeprefix("-").isdigit() and len(wanted) <= 11


def _normalised(text: str) -> str:
    try:
        return normalise(text)
    except SchemaRefusedError as error:
        raise RegistryError(422, INVALID_SCHEMA, f"Invalid schema: {error}") from None


def checked(text: str) -> str:
    """Normalised text of a schema that can be registered; 42201 says why another cannot."""
    try:
        return check_schema(text)
    except SchemaRefusedError as error:
        raise RegistryError(422, INVALID_SCHEMA, f"Invalid schema: {error}") from None
