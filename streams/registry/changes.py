"""What changes in a schema log, as pure functions of it: the answer, and the records that make it true.

What is refused raises RegistryError (``streams.registry.rules``). The schemas that this release writes with cannot be
hidden, and nothing in a subject of ours can be deleted for good, because retained records name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from streams.codec import normal_text
from streams.registry.compatibility import LEVELS
from streams.registry.rules import (
    INCOMPATIBLE,
    INVALID_LEVEL,
    INVALID_MODE,
    INVALID_SUBJECT,
    LATEST,
    MODES,
    NOT_PERMITTED,
    OUR_RECORDS,
    SUBJECT_DELETED,
    SUBJECT_NOT_DELETED,
    VERSION_DELETED,
    VERSION_NOT_DELETED,
    RegistryError,
    checked,
    incompatibilities,
    is_ours,
    level_of,
    level_set,
    mode_of,
    mode_set,
    version_of,
    versions_of,
)
from streams.registry.schema_log import (
    SchemaLog,
    SchemaVersion,
    erased_record,
    hidden_record,
    highest_id_record,
    level_record,
    mode_record,
    schema_record,
)

MAX_SUBJECT: Final = 255
Records = tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The answer to a request that changes something, and the records to write first (key, value); none: no change."""

    answer: Any
    records: Records = ()


def register(log: SchemaLog, subject: str, text: str) -> Change:
    """Register a schema as the next version of a subject; the same schema again changes nothing.

    Refused with 409 when it is incompatible, 42201 when it is no schema that we would decode with, 42205 when the
    subject is read-only, 42208 for a name that no subject can have.
    """
    if not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
        message = f"A subject's name has 1 to {MAX_SUBJECT} printable characters."
        raise RegistryError(422, INVALID_SUBJECT, message)
    normal = checked(text)
    live = log.of(subject)
    for entry in reversed(live):
        if entry.normal == normal:
            return Change(entry)
    _writable(log, subject)
    reasons = incompatibilities(log, subject, text, live)
    if reasons:
        message = (
            f"Schema being registered is incompatible with an earlier schema for subject '{subject}', "
            f"compatibility: '{level_of(log, subject)}', details: {'; '.join(reasons)}"
        )
        raise RegistryError(409, INCOMPATIBLE, message)
    known = log.id_of(normal)
    version = 1 + max((entry.version for entry in log.of(subject, deleted=True)), default=0)
    entry = SchemaVersion(subject, version, log.next_id if known is None else known, text, normal)
    return Change(entry, (schema_record(entry),))


def delete_subject(log: SchemaLog, subject: str, *, permanent: bool) -> Change:
    """Hide all versions of a subject, or delete hidden ones for good; the answer is their numbers."""
    found = versions_of(log, subject, deleted=True)
    live = [entry for entry in found if not entry.deleted]
    _writable(log, subject)
    if permanent:
        if live:
            message = f"Subject '{subject}' was not deleted first before being permanently deleted"
            raise RegistryError(404, SUBJECT_NOT_DELETED, message)
        return Change([entry.version for entry in found], _erased(log, subject, found, all_of=True))
    if not live:
        message = f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently"
        raise RegistryError(404, SUBJECT_DELETED, message)
    _not_in_use(subject, live)
    return Change([entry.version for entry in live], (hidden_record(subject, live[-1].version),))


def delete_version(log: SchemaLog, subject: str, wanted: str, *, permanent: bool) -> Change:
    """Hide one version, or delete a hidden one for good; the answer is its number."""
    entry = version_of(log, subject, wanted, deleted=wanted not in ("latest", str(LATEST)))
    _writable(log, subject)
    if permanent:
        if not entry.deleted:
            message = (
                f"Subject '{subject}' Version {entry.version} was not deleted first before being permanently deleted"
            )
            raise RegistryError(404, VERSION_NOT_DELETED, message)
        last = len(log.of(subject, deleted=True)) == 1
        return Change(entry.version, _erased(log, subject, [entry], all_of=last))
    if entry.deleted:
        message = (
            f"Subject '{subject}' Version {entry.version} was soft deleted. Set permanent=true to delete permanently"
        )
        raise RegistryError(404, VERSION_DELETED, message)
    _not_in_use(subject, [entry])
    return Change(entry.version, (schema_record(replace(entry, deleted=True)),))


def set_level(log: SchemaLog, subject: str, level: object) -> Change:
    """Set the compatibility level of a subject or of everybody; 42203 for a level that does not exist."""
    if level not in LEVELS:
        raise RegistryError(422, INVALID_LEVEL, f"Invalid compatibility level. Valid values are {', '.join(LEVELS)}")
    _writable(log, subject)
    return Change(level, () if log.levels.get(subject) == level else (level_record(subject, str(level)),))


def unset_level(log: SchemaLog, subject: str) -> Change:
    """Go back to the default level; the answer is the level before."""
    before = level_set(log, subject)
    _writable(log, subject)
    return Change(before, (level_record(subject, None),) if subject in log.levels else ())


def set_mode(log: SchemaLog, subject: str, mode: object) -> Change:
    """Set the mode of a subject or of everybody; 42204 for another one than READWRITE and READONLY."""
    if mode not in MODES:
        message = f"Invalid mode. Valid values are {', '.join(MODES)}: ids are handed out here only, never imported"
        raise RegistryError(422, INVALID_MODE, message)
    return Change(mode, () if log.modes.get(subject) == mode else (mode_record(subject, str(mode)),))


def unset_mode(log: SchemaLog, subject: str) -> Change:
    """Go back to the default mode; the answer is the mode before."""
    before = mode_set(log, subject)
    return Change(before, (mode_record(subject, None),) if subject in log.modes else ())


def _writable(log: SchemaLog, subject: str) -> None:
    if mode_of(log, subject) == "READONLY":
        where = f"Subject {subject}" if subject else "The registry"
        raise RegistryError(422, NOT_PERMITTED, f"{where} is in read-only mode")


def _not_in_use(subject: str, entries: Sequence[SchemaVersion]) -> None:
    """Refuse to hide what our own processes write with."""
    record = OUR_RECORDS.get(subject)
    if record is not None and any(entry.normal == normal_text(record) for entry in entries):
        message = f"The topic of subject '{subject}' is in use here: the schema it is written with cannot be deleted"
        raise RegistryError(422, NOT_PERMITTED, message)


def _erased(log: SchemaLog, subject: str, entries: Sequence[SchemaVersion], *, all_of: bool) -> Records:
    if is_ours(subject):
        message = f"Records of subject '{subject}' may still name this schema: it cannot be deleted permanently"
        raise RegistryError(422, NOT_PERMITTED, message)
    records: list[tuple[bytes, bytes | None]] = [highest_id_record(log.next_id - 1), *map(erased_record, entries)]
    if all_of and subject in log.levels:
        records.append(level_record(subject, None))
    if all_of and subject in log.modes:
        records.append(mode_record(subject, None))
    return tuple(records)
