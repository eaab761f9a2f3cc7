"""Records to bytes and back: the only module that imports fastavro.

Wire format of every value: ``00``, schema id (4 bytes, big-endian), Avro body. Writing uses our own schema of the
record; reading accepts every schema that is registered for the topic's subject and resolves it to ours. Nothing is
decoded before its size, prefix, lengths, number ranges and item counts were checked, down to the last byte.
"""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

from schemas.audit import AuditEntry, AuditRecord
from schemas.check import CheckRequest, Observation
from schemas.decision import RoutingDecision
from schemas.frame import InferenceFrame
from schemas.journal import JournalEntry
from schemas.ledger import LedgerCheckpoint
from schemas.load import ExecutorLoad
from schemas.memory import MemoryCommand, MemoryEntry, MemoryEvent
from schemas.plan import PlanProposal
from schemas.request import InferenceRequest
from schemas.result import InferenceResult
from schemas.review import ContextSignal, Escalation, ReviewDecision, ReviewRequest, ReviewVote, Validation
from schemas.scaling import ScaleAction, ScaleConfirmation
from schemas.shadow import ShadowComparison
from schemas.statistics import VersionStatistics
from schemas.telemetry import Alert, Heartbeat, RouterLoad, Telemetry
from streams.avro_scan import Scan, compile_scan
from streams.convert import from_dict, to_dict
from streams.errors import InvariantError, PoisonRecordError
from streams.frame_codec import decode_frame, encode_frame
from streams.registry.schema_text import SchemaRefusedError, lint, named_types, part
from streams.topics import MAX_RECORD_BYTES, TOPICS, full_name
from streams.varint import write_array, write_bytes, write_double, write_long, write_string

__all__ = [
    "RECORDS",
    "SCHEMAS",
    "SCHEMA_TEXTS",
    "Codec",
    "RegisteredSchema",
    "SchemaIds",
    "encode_body",
    "schema_id_of",
    "subject_of",
    "write_array",
    "write_bytes",
    "write_double",
    "write_long",
    "write_string",
]

MAGIC: Final = b"\x00"
PREFIX_BYTES: Final = 5
FRAME: Final = "InferenceFrame"

_CLASSES: Final = (
    *(InferenceRequest, InferenceFrame, InferenceResult, LedgerCheckpoint, PlanProposal, RouterLoad, ScaleAction),
    *(ScaleConfirmation, Heartbeat, Telemetry, Alert, Validation, ContextSignal, ReviewRequest, ReviewDecision),
    *(Escalation, JournalEntry, MemoryCommand, MemoryEvent, MemoryEntry),
    *(ExecutorLoad, CheckRequest, Observation, ReviewVote),
    *(VersionStatistics, RoutingDecision),
    *(AuditRecord, AuditEntry, ShadowComparison),
)
RECORDS: Final[dict[str, type]] = {cls.__name__: cls for cls in _CLASSES}

# What the library and the walk raise on bytes that do not fit a schema.
_DECODE_ERRORS: Final = (
    *(EOFError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error, SchemaResolutionError),
)


def snake(record: str) -> str:
    """Stem of a record's schema files."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", record).lower()


def schema_versions(record: str) -> dict[int, str]:
    """Text of every version of a record's schema that this release knows, oldest first; the last one is written."""
    pattern = re.compile(re.escape(snake(record)) + r"\.v(\d+)\.avsc")
    found = {
        int(match[1]): file.read_text(encoding="utf-8")
        for file in resources.files("schemas").iterdir()
        if (match := pattern.fullmatch(file.name)) is not None
    }
    return dict(sorted(found.items()))


def _load(record: str) -> str:
    versions = schema_versions(record)
    return versions[max(versions)]


def _parse(text: str) -> Any:
    return fastavro.parse_schema(json.loads(text))


SCHEMA_TEXTS: Final[dict[str, str]] = {name: _load(name) for name in RECORDS}
SCHEMAS: Final[dict[str, Any]] = {name: _parse(text) for name, text in SCHEMA_TEXTS.items()}
_NORMAL: Final = {name: lint(text) for name, text in SCHEMA_TEXTS.items()}


def subject_of(topic_short: str) -> str:
    """Subject of a topic's values, by its short name."""
    return f"{full_name(topic_short)}-value"


def schema_id_of(value: bytes) -> int:
    """Schema id in a value's prefix; PoisonRecordError ``garbage`` when there is none."""
    if len(value) < PREFIX_BYTES or value[:1] != MAGIC:
        raise PoisonRecordError("garbage", "the value does not begin with 00 and a schema id")
    return int.from_bytes(value[1:PREFIX_BYTES], "big")


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema of the log: id, text as registered, normalised text ("" = refused by lint), the subjects it is in."""

    schema_id: int
    text: str
    normal: str
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True)
class SchemaIds:
    """What is registered: ``write_ids`` is our own schema's id per subject, ``by_id`` every schema to read with."""

    write_ids: Mapping[str, int]
    by_id: Mapping[int, RegisteredSchema]

    @classmethod
    def local(cls, first_id: int = 1) -> SchemaIds:
        """Ids as a fresh schema log would give them, dense, in the order of the topic table; for tests."""
        ids: dict[str, int] = {}
        subjects: dict[str, list[str]] = {}
        for topic in TOPICS.values():
            if topic.record is not None:
                ids.setdefault(topic.record, first_id + len(ids))
                subjects.setdefault(topic.record, []).append(subject_of(topic.name))
        return cls(
            {subject: ids[record] for record, names in subjects.items() for subject in names},
            {
                ids[record]: RegisteredSchema(ids[record], SCHEMA_TEXTS[record], _NORMAL[record], frozenset(names))
                for record, names in subjects.items()
            },
        )


def normal_text(record: str) -> str:
    """Normalised text of our schema of a record."""
    return _NORMAL[record]


@cache
def _writer(name: str) -> tuple[Any, Callable[[Any], Any]]:
    """Parsed schema and converter of a record, also of one that only stands inside others."""
    if name in RECORDS:
        return SCHEMAS[name], to_dict(RECORDS[name])

    def convert(record: Any) -> Any:
        cls: type = type(record)
        return to_dict(cls)(record)

    for normal in _NORMAL.values():
        schema = json.loads(normal)
        if f"isos.{name}" in named_types(schema):
            return fastavro.parse_schema(part(schema, f"isos.{name}")), convert
    raise InvariantError(f"no schema defines a record {name}")


def encode_body(name: str, record: Any) -> bytes:
    """Avro body, without prefix, of a dataclass whose record type is ``name``; parts such as Timing count too."""
    schema, convert = _writer(name)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, convert(record))
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class _Reader:
    """How values of one schema id are read for one topic."""

    scan: Scan
    writer: Any
    reader: Any
    convert: Callable[[Any], Any]

    def read(self, value: bytes) -> Any:
        if self.scan(value, PREFIX_BYTES) != len(value):
            raise ValueError("bytes are left over after the record")
        body = io.BytesIO(value)
        body.seek(PREFIX_BYTES)
        return self.convert(fastavro.schemaless_reader(body, self.writer, self.reader))


class _FrameReader:
    """Reads frames that were written with our own schema."""

    @staticmethod
    def read(value: bytes) -> InferenceFrame:
        return decode_frame(value, PREFIX_BYTES)


@cache
def _compile_reader(normal: str, record: str) -> _Reader | _FrameReader:
    ours = normal == _NORMAL[record]
    if ours and record == FRAME:
        return _FrameReader()
    writer = SCHEMAS[record] if ours else _parse(normal)
    return _Reader(compile_scan(normal), writer, None if ours else SCHEMAS[record], from_dict(RECORDS[record]))


class Codec:
    """Encodes and decodes the values of our topics, by short topic name.

    Not tied to a connection: ``refresh`` hands in a newer view of the schema log.
    """

    def __init__(self, ids: SchemaIds) -> None:
        self._ids = ids
        self._readers: dict[tuple[str, int], _Reader | _FrameReader] = {}

    @property
    def ids(self) -> SchemaIds:
        """The view of the schema log that is in use."""
        return self._ids

    def refresh(self, ids: SchemaIds) -> None:
        """Use a newer view of the schema log."""
        self._ids = ids
        self._readers = {}

    def prefix(self, topic_short: str) -> bytes:
        """The five bytes before every body on the topic; InvariantError when our schema is not registered."""
        schema_id = self._ids.write_ids.get(subject_of(topic_short))
        if schema_id is None:
            raise InvariantError(f"no schema of ours is registered for {subject_of(topic_short)}")
        return MAGIC + schema_id.to_bytes(4, "big")

    def encode(self, topic_short: str, record: Any) -> bytes:
        """Value for the topic; raw bytes pass through on topics without a record type."""
        name = TOPICS[topic_short].record
        if name is None:
            return bytes(record)
        if name == FRAME:
            return encode_frame(record, self.prefix(topic_short))
        return self.prefix(topic_short) + encode_body(name, record)

    def decode(self, topic_short: str, value: bytes | None) -> Any:
        """Record of a value. PoisonRecordError with code null_value, garbage or unknown_schema when it holds none."""
        if value is None:
            raise PoisonRecordError("null_value", "the record has no value")
        if len(value) > MAX_RECORD_BYTES:
            raise PoisonRecordError("garbage", f"the value is larger than {MAX_RECORD_BYTES} bytes")
        if TOPICS[topic_short].record is None:
            return value
        schema_id = schema_id_of(value)
        reader = self._readers.get((topic_short, schema_id)) or self._reader(topic_short, schema_id)
        try:
            return reader.read(value)
        except _DECODE_ERRORS as error:
            raise PoisonRecordError("garbage", f"the value does not fit schema {schema_id}: {error}") from None

    def knows(self, topic_short: str, value: bytes) -> bool:
        """Whether a value's schema is one to read the topic with; cheap, the value itself is not looked at."""
        if TOPICS[topic_short].record is None:
            return True
        schema_id = int.from_bytes(value[1:PREFIX_BYTES], "big")
        if (topic_short, schema_id) in self._readers:
            return True
        registered = self._ids.by_id.get(schema_id)
        return registered is not None and subject_of(topic_short) in registered.subjects and registered.normal != ""

    def _reader(self, topic_short: str, schema_id: int) -> _Reader | _FrameReader:
        registered = self._ids.by_id.get(schema_id)
        subject, record = subject_of(topic_short), TOPICS[topic_short].record
        if registered is None or subject not in registered.subjects or not registered.normal or record is None:
            raise PoisonRecordError("unknown_schema", f"schema id {schema_id} is not registered for {subject}")
        try:
            reader = _compile_reader(registered.normal, record)
        except (SchemaParseException, SchemaRefusedError) as error:
            raise PoisonRecordError("unknown_schema", f"schema {schema_id} cannot be used: {error}") from None
        self._readers[topic_short, schema_id] = reader
        return reader
