"""Keep records that can never be processed, as they came, before their stage goes on (``letter`` has the form).

A stage goes on only when the broker holds the letter. While it cannot be written (the broker is away, the topic is gone
or takes less than it should) the stage ends, is started anew and reads the record again: nothing passes it, nothing is
lost, and each round says so in one sentence in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import PoisonRecordError, RetriableError
from streams.letters.letter import CODE, Letter
from streams.topics import full_name

TOPIC: Final = full_name("inference.dlq")
CODE_HEADER: Final = CODE
SEND_TIMEOUT_S: Final = 30.0
MAX_ROUND: Final = 500
"""Letters on their way at once."""
MAX_ROUND_BYTES: Final = 32 << 20


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
        """Return when the broker holds all of them; one bound for the whole.

        Raises LetterNotWrittenError when one is not acknowledged in time: some of the others may stand, and do twice
        when their records are read again.
        """
        left = len(letters)
        group: Sequence[Letter] = ()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                for group in _rounds(letters):
                    await self._write(group, left)
                    left -= len(group)
        except TimeoutError as late:
            reason = f"no answer within {SEND_TIMEOUT_S:g} s"
            raise LetterNotWrittenError(self._stage, group[0], left, reason) from late

    async def write(self, record: Any, error: PoisonRecordError) -> None:
        """Keep a record that aiokafka or Faust read, with its key and headers; otherwise as ``write_many``.

        Frames of ours have neither; what a stranger wrote among them may.
        """
        # Faust gives seconds where the client gives milliseconds.
        timestamp_ms = round(record.timestamp * 1000) if isinstance(record.timestamp, float) else None
        await self.write_many([Letter.of(record, error, timestamp_ms=timestamp_ms)])

    async def _write(self, letters: Sequence[Letter], left: int) -> None:
        """Write one round, of ``left`` letters in all that are still to be written."""
        waiting: list[asyncio.Future[Any]] = []
        for letter in letters:
            value, key, headers = letter.fields(self._stage, self._topic_ids.get(letter.where.topic))
            try:
                waiting.append(await self._producer.send(TOPIC, value, key=key, headers=headers))
            except KafkaError as error:
                raise LetterNotWrittenError(self._stage, letter, left, _said(error)) from error
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        for letter, outcome in zip(letters, outcomes, strict=True):
            if isinstance(outcome, KafkaError):
                raise LetterNotWrittenError(self._stage, letter, left, _said(outcome)) from outcome
            if isinstance(outcome, BaseException):
                raise outcome


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
