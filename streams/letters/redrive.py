"""Send dead letters again: each becomes a new record on the topic and partition it came from.

The new record has the old one's key, value and headers, and ``isos-redriven-from``, which names the old coordinate
(``topic/partition/offset@topic id``). It is a request of its own: another offset, another time, another result; the old
one keeps the result it has. Then a note with ``isos-redriven-to`` is written under the letter's key. A death between
the two leaves a record without its note, so a letter may be sent twice, never not at all; each copy is its own
coordinate with its own result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.errors import KafkaError

from streams.connection import Connection, TimedOutError, bounded, producer, start, stop_quietly
from streams.letters.letter import REDRIVEN_FROM, REDRIVEN_TO, TOPIC_ID, Letter, parse_letter
from streams.letters.letter_log import TOPIC, Progress, StoredLetter, scan
from streams.provision import topic_ids
from streams.topics import MAX_LETTER_BYTES, full_name

REDRIVABLE: Final = (
    full_name("inference.requests"),
    full_name("inference.admitted"),
    full_name("inference.routed"),
    full_name("inference.retries"),
    full_name("inference.executed"),
)
"""Requests, and frames: the Validator drops a frame's rows that have their result."""
ROUND_TIMEOUT_S: Final = 60.0
MAX_ROUND: Final = 200
MAX_ROUND_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one letter: the new record's coordinate, or why there is none.

    ``failed``: the broker refused the record or its note; False for what is left out by rule.
    """

    stored: StoredLetter
    to: str = ""
    reason: str = ""
    failed: bool = False


def why_not(stored: StoredLetter, partitions: Mapping[str, int], *, again: bool) -> str:
    """Why a letter cannot be sent again; empty when it can. ``partitions``: number by full topic name."""
    where = stored.letter.where
    if where.topic not in REDRIVABLE:
        return f"only requests and frames can be sent again, not records of {where.topic}"
    if stored.letter.omitted:
        why = stored.letter.omitted
        return f"its value was refused or too large to be kept ({why}); only its topic may still hold it"
    if where.partition >= partitions.get(where.topic, 0):
        return f"{where.topic} has no partition {where.partition} any more"
    if stored.redriven_to and not again:
        return f"it was sent again as {stored.redriven_to[-1]}; `--again` sends it once more"
    return ""


def coordinate(topic: str, partition: int, offset: int, topic_id: bytes | None) -> str:
    """A record's coordinate as the headers name it: ``topic/partition/offset@topic id`` (32 hex digits)."""
    return f"{topic}/{partition}/{offset}" + ("" if topic_id is None else f"@{topic_id.hex()}")


async def redrive(
    connection: Connection,
    chosen: Sequence[StoredLetter],
    *,
    rate_per_s: float = 0,
    progress: Progress | None = None,
) -> list[Redriven]:
    """Send the chosen letters again, oldest first, at most ``rate_per_s`` (0: as fast as it goes).

    Those that the broker refuses are named with the reason. Raises UnreachableError or TimedOutError when nothing can
    be said of them.
    """
    short = {name.removeprefix("isos.").removesuffix(".v1"): name for name in {s.letter.where.topic for s in chosen}}
    ids = {short[name]: topic_id for name, topic_id in (await topic_ids(connection, short)).items()}
    sender = producer(connection, max_request_size=MAX_LETTER_BYTES + 64 * 1024, enable_idempotence=True)
    try:
        await start(sender, "connecting to send letters again")
        run = _Run(sender, ids, rate_per_s, {each.offset: each for each in chosen}, progress)
        offsets = sorted(run.left)
        await scan(connection, run.take, first=offsets[0], end=offsets[-1] + 1)
        await run.flush()
    finally:
        await stop_quietly(sender)
    gone = [Redriven(each, "", "retention has removed the letter", failed=True) for each in run.left.values()]
    return [*run.done, *gone]


class _Run:
    """Gathers rounds of letters and sends them."""

    def __init__(
        self,
        sender: Any,
        ids: Mapping[str, bytes],
        rate_per_s: float,
        left: dict[int, StoredLetter],
        progress: Progress | None,
    ) -> None:
        self._sender = sender
        self._ids = ids
        self._rate = rate_per_s
        self._max_round = min(MAX_ROUND, max(1, int(rate_per_s / 4))) if rate_per_s else MAX_ROUND
        self._round: list[tuple[StoredLetter, Letter]] = []
        self._round_bytes = 0
        self._began = time.monotonic()
        self._total = len(left)
        self._progress = progress
        self.left = left
        self.done: list[Redriven] = []

    async def take(self, records: Sequence[Any]) -> None:
        """Pick the chosen ones out of what was read."""
        for record in records:
            if record.offset not in self.left:
                continue
            letter = parse_letter(record.value, tuple(record.headers))
            if letter is None:
                continue
            self._round.append((self.left.pop(record.offset), letter))
            self._round_bytes += len(record.value or b"")
            if len(self._round) >= self._max_round or self._round_bytes >= MAX_ROUND_BYTES:
                await self.flush()

    async def flush(self) -> None:
        """Send a round and note it; then wait as the rate asks."""
        ready, self._round, self._round_bytes = self._round, [], 0
        if not ready:
            return
        sent = await bounded(self._send(ready), ROUND_TIMEOUT_S, "sending letters again")
        self.done += await self._note(sent)
        if self._progress is not None:
            self._progress("sending again", len(self.done), self._total)
        if self._rate:
            await asyncio.sleep(max(0.0, self._began + len(self.done) / self._rate - time.monotonic()))

    async def _send(self, ready: Sequence[tuple[StoredLetter, Letter]]) -> list[Redriven]:
        waiting = [await self._hand_over(letter) for _, letter in ready]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        sent = []
        for (stored, letter), outcome in zip(ready, outcomes, strict=True):
            if isinstance(outcome, KafkaError):
                sent.append(Redriven(stored, "", str(outcome) or type(outcome).__name__, failed=True))
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            where = letter.where
            to = coordinate(where.topic, where.partition, outcome.offset, self._ids[where.topic])
            sent.append(Redriven(stored, to))
        return sent

    async def _hand_over(self, letter: Letter) -> Any:
        where = letter.where
        origin = coordinate(where.topic, where.partition, where.offset, letter.topic_id)
        headers = [*letter.headers, (REDRIVEN_FROM, origin.encode())]
        try:
            if letter.key is None and letter.value is None:  # the client takes such a record in a batch only
                batch = self._sender.create_batch()
                batch.append(key=None, value=None, timestamp=None, headers=headers)
                return await self._sender.send_batch(batch, where.topic, partition=where.partition)
            return await self._sender.send(
                where.topic, letter.value, key=letter.key, partition=where.partition, headers=headers
            )
        except KafkaError as error:
            failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def _note(self, sent: Sequence[Redriven]) -> list[Redriven]:
        """Write the notes; a failure of theirs is said, for the records stand."""
        waiting = []
        for each in sent:
            letter = each.stored.letter
            headers = [(REDRIVEN_TO, each.to.encode())]
            headers += [] if letter.topic_id is None else [(TOPIC_ID, letter.topic_id.hex().encode())]
            if each.to:
                waiting.append(self._sender.send_and_wait(TOPIC, None, key=letter.place.encode(), headers=headers))
        try:
            outcomes = iter(
                await bounded(asyncio.gather(*waiting, return_exceptions=True), ROUND_TIMEOUT_S, "noting what was sent")
            )
        except TimedOutError as error:
            outcomes = iter([error] * len(waiting))
        return [_noted(each, next(outcomes)) if each.to else each for each in sent]


def _noted(each: Redriven, outcome: Any) -> Redriven:
    if isinstance(outcome, BaseException):
        return Redriven(
            each.stored, each.to, f"it was sent, but the note of it was not written: {outcome}", failed=True
        )
    return each
