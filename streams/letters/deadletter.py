"""Keep records that can never be processed, as they came, before their stage goes on (``letter`` has the form).

A stage goes on only when the broker holds the letter. While none can be written (the broker is away, the topic is gone)
the stage ends, is started anew and reads the record again: nothing passes it, nothing is lost, and each round says so
in one sentence in the log. A letter that the broker refuses for what it holds (the topic takes less than it should)
would be refused for ever: it is written again with less, in the end with nothing of its record but the place and the
reason, and the record itself stays where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
    UnsupportedForMessageFormatError,
)

from streams.errors import PoisonRecordError, RetriableError
from streams.letters.letter import CODE, Kept, Letter
from streams.topics import full_name

TOPIC: Final = full_name("inference.dlq")
CODE_HEADER: Final = CODE
SEND_TIMEOUT_S: Final = 30.0
MAX_ROUND: Final = 500
"""Letters on their way at once."""
MAX_ROUND_BYTES: Final = 32 << 20
REFUSALS: Final = (
    CorruptRecordException,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,  # also what the client makes of codes that it does not know, INVALID_RECORD among them
    UnsupportedForMessageFormatError,
)
"""The broker's answers to what a record is; the same record would get them again."""

log: Final = logging.getLogger(__name__)


class LetterNotWrittenError(RetriableError):
    """A dead letter could not be written: the stage must not go on past its record."""

    def __init__(self, stage: str, letter: Letter, num_letters: int, reason: str) -> None:
        super().__init__(stage, letter.place, num_letters, reason)
        self.stage = stage
        self.place = letter.place
        self.num_letters = num_letters
        self.reason = reason

    def __str__(self) -> str:
        others = f" (and {self.num_letters - 1} more)" if self.num_letters > 1 else ""
        return (
            f"the dead letter of {self.place}{others} could not be written to {TOPIC}: {self.reason}; "
            f"{self.stage} does not go past it and tries again; `isos doctor` checks the topic"
        )


class DeadLetters:
    """Writes dead letters of one stage. ``topic_ids``: 16 bytes by full topic name, for coordinates that outlive it."""

    def __init__(self, producer: AIOKafkaProducer, stage: str, topic_ids: Mapping[str, bytes] | None = None) -> None:
        self._producer = producer
        self._stage = stage
        self._topic_ids = topic_ids or {}

    async def write_many(self, letters: Sequence[Letter]) -> None:
        """Return when the broker holds all of them; each round of at most ``MAX_ROUND`` has its own bound of time.

        Raises LetterNotWrittenError when one is not acknowledged in time: some of the others may stand, and do twice
        when their records are read again.
        """
        left = len(letters)
        for group in _rounds(letters):
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._write(group, left)
            except TimeoutError as late:
                reason = f"no answer within {SEND_TIMEOUT_S:g} s"
                raise LetterNotWrittenError(self._stage, group[0], left, reason) from late
            left -= len(group)

    async def write(self, record: Any, error: PoisonRecordError) -> None:
        """Keep a record that aiokafka or Faust read, with its key and headers; otherwise as ``write_many``.

        Frames of ours have neither; what a stranger wrote among them may.
        """
        # Faust gives seconds where the client gives milliseconds.
        timestamp_ms = round(record.timestamp * 1000) if isinstance(record.timestamp, float) else None
        await self.write_many([Letter.of(record, error, timestamp_ms=timestamp_ms)])

    async def _write(self, letters: Sequence[Letter], left: int) -> None:
        """Write one round, of ``left`` letters in all that are still to be written."""
        waiting = [await self._send(letter, left) for letter in letters]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        refused: list[Letter] = []
        for letter, outcome in zip(letters, outcomes, strict=True):
            if isinstance(outcome, REFUSALS):
                refused.append(letter)
            elif isinstance(outcome, KafkaError):
                raise LetterNotWrittenError(self._stage, letter, left, _said(outcome)) from outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        for letter in refused:
            await self._write_less(letter, left)

    async def _write_less(self, letter: Letter, left: int) -> None:
        """Write a refused letter by itself, for its batch may have been too large, and then with less and less."""
        said = ""
        for kept in Kept:
            try:
                await (await self._send(letter, left, kept, said))
            except REFUSALS as error:
                said = said or _said(error)
            except KafkaError as error:
                raise LetterNotWrittenError(self._stage, letter, left, _said(error)) from error
            else:
                if kept is not Kept.WHOLE:
                    log.warning("the dead letter of %s stands without its record: %s", letter.place, said)
                return
        raise LetterNotWrittenError(self._stage, letter, left, said)

    async def _send(self, letter: Letter, left: int, kept: Kept = Kept.WHOLE, refused: str = "") -> asyncio.Future[Any]:
        """Hand a letter to the client; that it holds too much for it is the future's exception."""
        topic_id = self._topic_ids.get(letter.where.topic)
        value, key, headers = letter.fields(self._stage, topic_id, kept=kept, refused=refused)
        try:
            sent: asyncio.Future[Any] = await self._producer.send(TOPIC, value, key=key, headers=headers)
        except REFUSALS as error:
            sent = asyncio.get_running_loop().create_future()
            sent.set_exception(error)
        except KafkaError as error:
            raise LetterNotWrittenError(self._stage, letter, left, _said(error)) from error
        return sent


def _said(error: KafkaError) -> str:
    return str(error) or type(error).__name__


def _rounds(letters: Sequence[Letter]) -> list[list[Letter]]:
    """Cut into groups by number and bytes, so that a burst of large records does not stand in memory twice."""
    groups: list[list[Letter]] = []
    held = 0
    for letter in letters:
        size = len(letter.value or b"")
        if not groups or len(groups[-1]) >= MAX_ROUND or held + size > MAX_ROUND_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(letter)
        held += size
    return groups
