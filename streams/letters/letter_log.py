"""The dead letters as they stand on their topic: one per record, with how often it was written and where it went again.

A record may have two letters (its stage died between letter and commit); they are one here. A note is a record without
a value under the letter's key, with the header ``isos-redriven-to``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.letters.letter import REDRIVEN_TO, TOPIC_ID, Letter, parse_letter
from streams.topics import PREFIX, SUFFIX, full_name

TOPIC: Final = full_name("inference.dlq")
PLACE: Final = TopicPartition(TOPIC, 0)
ASK_TIMEOUT_S: Final = 15.0
STALL_TIMEOUT_S: Final = 30.0
POLL_MS: Final = 1_000
MAX_RECORDS: Final = 1_000

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Take = Callable[[Sequence[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter on the log; ``letter`` is without value and headers, the rest is of its newest copy."""

    letter: Letter
    offset: int
    written_ms: int
    num_bytes: int
    num_copies: int = 1
    redriven_to: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Short topic name, partition and offset of the record: ``inference.requests/0/17``."""
        return letter_id(self.letter)

    @property
    def full_id(self) -> str:
        """The id, and the beginning of its topic's id: it tells letters of a topic apart that was made anew."""
        topic_id = self.letter.topic_id
        return self.id if topic_id is None else f"{self.id}@{topic_id.hex()[:8]}"


def letter_id(letter: Letter) -> str:
    """Place of the record with its topic's short name."""
    return letter.place.removeprefix(PREFIX).replace(f"{SUFFIX}/", "/", 1)


class LetterFold:
    """All letters of what was added, in the order in which their records first failed."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, bytes | None], StoredLetter] = {}
        self.num_foreign = 0

    def add(self, record: Any) -> None:
        """Take one consumed record: a letter, a note, or neither (``num_foreign``)."""
        letter = parse_letter(record.value, tuple(record.headers))
        if letter is None:
            self._note(record)
            return
        stored = StoredLetter(
            dataclasses.replace(letter, value=None, headers=()),
            record.offset,
            record.timestamp,
            len(record.value or b""),
        )
        before = self._found.get((letter.place, letter.topic_id))
        if before is not None:
            stored = dataclasses.replace(stored, num_copies=before.num_copies + 1, redriven_to=before.redriven_to)
        self._found[letter.place, letter.topic_id] = stored

    def _note(self, record: Any) -> None:
        headers = dict(record.headers)
        to = (headers.get(REDRIVEN_TO) or b"").decode(errors="replace")
        topic_id = (headers.get(TOPIC_ID) or b"").decode(errors="replace")
        place = ((record.key or b"").decode(errors="replace"), _hex(topic_id))
        if not to or place not in self._found:
            self.num_foreign += 1
            return
        before = self._found[place]
        self._found[place] = dataclasses.replace(before, redriven_to=(*before.redriven_to, to))

    @property
    def letters(self) -> list[StoredLetter]:
        """Every letter once."""
        return list(self._found.values())

    def find(self, text: str) -> list[StoredLetter]:
        """Letters with this id: several where the topic was made anew and ``@`` with a topic id does not say which."""
        wanted, _, topic_id = text.partition("@")
        place = wanted.replace(f"{SUFFIX}/", "/", 1).removeprefix(PREFIX)
        return [
            each
            for each in self._found.values()
            if each.id == place
            and (not topic_id or (each.letter.topic_id is not None and each.letter.topic_id.hex().startswith(topic_id)))
        ]


def _hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text) or None
    except ValueError:
        return None


async def read_letters(connection: Connection, progress: Progress | None = None) -> LetterFold:
    """Fold the whole topic as of now. Raises UnreachableError, TimedOutError."""
    fold = LetterFold()

    async def take(records: Sequence[Any]) -> None:
        for record in records:
            fold.add(record)

    await scan(connection, take, progress=progress)
    return fold


async def read_one(connection: Connection, stored: StoredLetter) -> Letter | None:
    """The whole letter, with value and headers; None when retention has taken it meanwhile."""
    found: list[Letter | None] = []

    async def take(records: Sequence[Any]) -> None:
        found.extend(parse_letter(each.value, tuple(each.headers)) for each in records if each.offset == stored.offset)

    await scan(connection, take, first=stored.offset, end=stored.offset + 1)
    return found[0] if found else None


async def scan(
    connection: Connection, take: Take, *, first: int = 0, end: int | None = None, progress: Progress | None = None
) -> None:
    """Hand over the records of the topic from ``first`` to ``end``, or to the end of now."""
    client = consumer(connection, max_poll_records=MAX_RECORDS)
    try:
        await start(client, f"connecting to read {TOPIC}")
        client.assign([PLACE])
        await _scan(client, take, first, end, progress)
    except KafkaError as error:
        raise UnreachableError(f"reading {TOPIC}", str(error) or type(error).__name__) from error
    finally:
        await stop_quietly(client)


async def _scan(client: Any, take: Take, first: int, end: int | None, progress: Progress | None) -> None:
    begin = (await bounded(client.beginning_offsets([PLACE]), ASK_TIMEOUT_S, "asking for the start"))[PLACE]
    last = (await bounded(client.end_offsets([PLACE]), ASK_TIMEOUT_S, "asking for the end"))[PLACE]
    last = last if end is None else min(end, last)
    first = max(first, begin)
    if first >= last:
        return
    client.seek(PLACE, first)
    heard = time.monotonic()
    position = first
    while position < last:
        fetched = await bounded(client.getmany(PLACE, timeout_ms=POLL_MS), STALL_TIMEOUT_S, f"reading {TOPIC}")
        for records in fetched.values():
            await take([record for record in records if record.offset < last])
            heard = time.monotonic()
        position = await client.position(PLACE)
        if progress is not None:
            progress("reading dead letters", min(position, last) - first, last - first)
        if time.monotonic() - heard > STALL_TIMEOUT_S:
            raise UnreachableError(f"reading {TOPIC}", f"no record arrived for {STALL_TIMEOUT_S:g} s")
