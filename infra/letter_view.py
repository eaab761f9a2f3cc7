"""Dead letters for people: which are meant, one line of each, everything of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from infra.commands.tail import readable, short_name
from streams.errors import CODES

if TYPE_CHECKING:
    from streams.letters.letter import Letter
    from streams.letters.letter_log import LetterFold, StoredLetter

PREVIEW_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; an empty field asks nothing. Times are milliseconds since the epoch."""

    code: str = ""
    stage: str = ""
    topic: str = ""
    since_ms: int = 0
    until_ms: int = 1 << 62

    def takes(self, stored: StoredLetter) -> bool:
        """Whether a letter is meant."""
        letter = stored.letter
        return (
            self.code in ("", letter.code)
            and self.stage in ("", letter.stage)
            and self.topic in ("", letter.where.topic, short_name(letter.where.topic))
            and self.since_ms <= stored.written_ms <= self.until_ms
        )


def select(fold: LetterFold, wanted: Filter) -> list[StoredLetter]:
    """The letters that are meant, by the time they were written."""
    return sorted(filter(wanted.takes, fold.letters), key=lambda each: each.offset)


def row(stored: StoredLetter, fold: LetterFold) -> dict[str, Any]:
    """One line of the list; the id is as short as says which."""
    letter = stored.letter
    return {
        "id": stored.id if len(fold.find(stored.id)) == 1 else stored.full_id,
        "written": _time(stored.written_ms),
        "code": letter.code,
        "stage": letter.stage,
        "bytes": stored.num_bytes,
        "copies": stored.num_copies,
        "redriven_to": stored.redriven_to[-1].partition("@")[0] if stored.redriven_to else None,
        "message": letter.message,
    }


def described(stored: StoredLetter, letter: Letter, decoded: Any) -> dict[str, Any]:
    """Everything there is to say of a letter, as JSON-like data."""
    code = CODES.get(letter.code)
    value = letter.value
    return {
        "id": stored.full_id,
        "written": _time(stored.written_ms),
        "received": _time(letter.timestamp_ms) if letter.timestamp_ms >= 0 else None,
        "code": letter.code,
        "message": letter.message,
        "meaning": code.meaning if code else None,
        "what_to_do": _what_to_do(stored, code.remedy if code else "", decoded),
        "stage": letter.stage,
        "exception": letter.exception,
        "causes": letter.causes,
        "topic_id": letter.topic_id.hex() if letter.topic_id else None,
        "copies": stored.num_copies,
        "redriven_to": list(stored.redriven_to),
        "key": readable(letter.key),
        "headers": {name: readable(each) for name, each in letter.headers},
        "value_bytes": None if value is None else len(value),
        "value_hex": None if value is None else value[:PREVIEW_BYTES].hex(),
        "value_omitted": letter.omitted or None,
        "decoded": decoded,
    }


def _what_to_do(stored: StoredLetter, remedy: str, decoded: Any) -> str:
    if stored.redriven_to:
        return f"It was sent again as {stored.redriven_to[-1]}."
    if isinstance(decoded, dict) and "undecodable" not in decoded:
        return f"Its value can be read by now: `isos dlq redrive {stored.full_id}`."
    return remedy


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
