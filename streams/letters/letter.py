"""What a dead letter holds and how it stands on the log: header names after KIP-1034, and ours.

The letter's key is its place, ``topic/partition/offset``. Its headers are the record's own, unchanged and first, then
ours; ``isos-num-headers`` says how many are the record's, so that they can be put back exactly. KIP-1034 keeps the
record's key as the key; here it is the header ``isos-key`` (absent when it was null), because the note that a letter
was redriven has to find it. ``__streams.errors.stacktrace`` holds exception names and their sentences, cause by cause,
and never a file or a line of ours: whoever reads the topic is not always whoever runs the program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final

from schemas.coordinate import RecordCoordinate
from streams.errors import PoisonRecordError
from streams.topics import MAX_LETTER_BYTES

EXCEPTION: Final = "__streams.errors.exception"
STACKTRACE: Final = "__streams.errors.stacktrace"
MESSAGE: Final = "__streams.errors.message"
TOPIC: Final = "__streams.errors.topic"
PARTITION: Final = "__streams.errors.partition"
OFFSET: Final = "__streams.errors.offset"
CODE: Final = "isos-code"
STAGE: Final = "isos-stage"
TOPIC_ID: Final = "isos-topic-id"
KEY: Final = "isos-key"
TIMESTAMP: Final = "isos-timestamp-ms"
NUM_HEADERS: Final = "isos-num-headers"
OMITTED: Final = "isos-omitted"
REDRIVEN_FROM: Final = "isos-redriven-from"
REDRIVEN_TO: Final = "isos-redriven-to"
MAX_MESSAGE_BYTES: Final = 1000
MAX_CAUSES_BYTES: Final = 4000
MAX_SHORT_BYTES: Final = 120
MAX_OMITTED_BYTES: Final = 200

Headers = tuple[tuple[str, bytes | None], ...]


class Kept(Enum):
    """How much of its record a letter holds.

    A letter of the last kind is under 800 bytes for any record, so a topic that refuses it takes no letters at all.
    """

    WHOLE = auto()
    REASONS = auto()
    """Neither value, key nor headers."""
    PLACE = auto()
    """As before, without the causes, and the message in short."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that can never be processed, as it came, and why. ``timestamp_ms``: the record's; -1 when not known.

    ``omitted`` is empty, or names size and SHA-256 of a record that could not be repeated, and what the broker said to
    it (a compressed one may unpack to more than any topic takes, and a topic may take less than it should): value, key
    and headers are then only on the topic it came from.
    """

    where: RecordCoordinate
    value: bytes | None
    code: str
    message: str
    exception: str = ""
    causes: str = ""
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int = -1
    stage: str = ""
    topic_id: bytes | None = None
    omitted: str = ""

    @classmethod
    def of(cls, record: Any, error: PoisonRecordError, *, timestamp_ms: int | None = None) -> Letter:
        """Make the letter of a consumed record; ``timestamp_ms`` where the record's own is in another unit."""
        return replace(
            cls.bare(RecordCoordinate(record.topic, record.partition, record.offset), record.value, error),
            key=record.key,
            headers=_pairs(record.headers),
            timestamp_ms=record.timestamp if timestamp_ms is None else timestamp_ms,
        )

    @classmethod
    def bare(cls, where: RecordCoordinate, value: bytes | None, error: PoisonRecordError) -> Letter:
        """Make the letter of a value of which nothing else is known."""
        causes = "\n".join(f"{_name(each)}: {each}" for each in _chain(error))
        return cls(where, value, error.code, error.message, _name(error), causes)

    @property
    def place(self) -> str:
        """``topic/partition/offset`` of the record, the key of its letter."""
        return f"{self.where.topic}/{self.where.partition}/{self.where.offset}"

    def fields(
        self, stage: str, topic_id: bytes | None, *, kept: Kept = Kept.WHOLE, refused: str = ""
    ) -> tuple[bytes | None, bytes, list[tuple[str, bytes | None]]]:
        """Value, key and headers of the letter that ``stage`` writes; always within ``MAX_LETTER_BYTES``.

        ``refused``: what the broker said to a letter that held more than ``kept`` asks for.
        """
        ours = self._ours(stage, topic_id)
        key = self.place.encode()
        if kept is Kept.WHOLE:
            theirs = [*self.headers]
            own = ours if self.key is None else [*ours, (KEY, self.key)]
            if _size(self.value, key, theirs, own) <= MAX_LETTER_BYTES:
                return self.value, key, [*theirs, *own, (NUM_HEADERS, str(len(theirs)).encode())]
        if kept is Kept.PLACE:
            ours = [(name, text and text[:MAX_SHORT_BYTES]) for name, text in ours if name != STACKTRACE]
        value = self.value or b""
        omitted = f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}"
        omitted += f"; refused: {refused}" if refused else ""
        return None, key, [*ours, (NUM_HEADERS, b"0"), (OMITTED, omitted.encode()[:MAX_OMITTED_BYTES])]

    def _ours(self, stage: str, topic_id: bytes | None) -> list[tuple[str, bytes | None]]:
        headers: list[tuple[str, bytes | None]] = [
            (EXCEPTION, self.exception.encode()),
            (STACKTRACE, self.causes.encode()[:MAX_CAUSES_BYTES]),
            (MESSAGE, self.message.encode()[:MAX_MESSAGE_BYTES]),
            (TOPIC, self.where.topic.encode()),
            (PARTITION, str(self.where.partition).encode()),
            (OFFSET, str(self.where.offset).encode()),
            (CODE, self.code.encode()),
            (STAGE, stage.encode()),
            (TIMESTAMP, str(self.timestamp_ms).encode()),
        ]
        return headers if topic_id is None else [*headers, (TOPIC_ID, topic_id.hex().encode())]


def parse_letter(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Letter | None:
    """Read a letter back from its record; None for what is none (a note, or a record that somebody else wrote)."""
    all_of_them = dict(headers)  # the last of a name wins, and ours are last
    try:
        count = int(_text(all_of_them, NUM_HEADERS) or 0)
        found = dict(headers[count:])
        where = RecordCoordinate(_text(found, TOPIC), int(_text(found, PARTITION)), int(_text(found, OFFSET)))
        topic_id = bytes.fromhex(_text(found, TOPIC_ID)) or None
        timestamp_ms = int(_text(found, TIMESTAMP) or -1)
    except ValueError:
        return None
    return Letter(
        where,
        value,
        _text(found, CODE),
        _text(found, MESSAGE),
        _text(found, EXCEPTION),
        _text(found, STACKTRACE),
        found.get(KEY),
        tuple(headers[:count]),
        timestamp_ms,
        _text(found, STAGE),
        topic_id,
        _text(found, OMITTED),
    )


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    return (headers.get(name) or b"").decode(errors="replace")


def _size(value: bytes | None, key: bytes, *headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Upper bound of the record's bytes: each length is at most five, and a record's frame is under 64."""
    pairs = (len(name.encode()) + len(text or b"") + 10 for group in headers for name, text in group)
    return len(value or b"") + len(key) + sum(pairs) + 64


def _pairs(headers: Any) -> Headers:
    """Headers as pairs; some clients give a mapping, or None."""
    return tuple(headers.items() if isinstance(headers, Mapping) else headers or ())


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain
