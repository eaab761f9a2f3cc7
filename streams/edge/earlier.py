"""What became of an earlier request: looked up in ``inference.results`` by its coordinate.

A request whose id was used before is rare, so nothing is kept per result: the partition of the earlier request is read
from its broker timestamp on, by the coordinates in headers, with a consumer of its own. A look is bounded in records
and time and goes on where the last one of the same coordinate stopped; an outcome is final and is remembered for a
while, so that a flood of one id reads nothing twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.result import InferenceResult
from streams.codec import Codec
from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.edge.request_ids import Claim
from streams.errors import PoisonRecordError
from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER
from streams.topics import MIB, full_name

REQUESTS: Final = full_name("inference.requests")
RESULTS: Final = full_name("inference.results")
MAX_RECORDS: Final = 20_000
LOOK_S: Final = 2.0
CALL_S: Final = 5.0
FETCH: Final = 1_000
SKEW_MS: Final = 250
"""Requests and results are stamped by their partitions' leaders, which may be two brokers."""
NEAR_US: Final = 5_000_000
"""Earlier requests this close are looked for in one pass."""
FETCH_WAIT_MS: Final = 10
"""A fetch that found nothing is in the next one's way; between looks the reader is paused and fetches nothing."""
MAX_KEPT: Final = 10_000
MAX_KEPT_BYTES: Final = 32 << 20

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look found: ``ended``, with the OK result as ``answer`` (None when it ended otherwise), or why not.

    ``under_way``: no result stood in the log when it was read to its end. ``not_found``: the look reached its bound
    before the end of the log; the next one goes on.
    """

    state: Literal["ended", "under_way", "not_found"]
    answer: InferenceResult | None = None
    num_bytes: int = 64


UNDER_WAY: Final = Outcome("under_way")
NOT_FOUND: Final = Outcome("not_found")


class EarlierResults:
    """Looks outcomes up; one look at a time."""

    def __init__(self, connection: Connection, codec: Codec, topic_id: bytes) -> None:
        self._connection = connection
        self._codec = codec
        self._topic_id = topic_id
        self._reader: AIOKafkaConsumer | None = None
        self._kept: dict[Place, Outcome] = {}
        self._kept_bytes = 0
        self._searched: dict[Place, int] = {}
        self.num_records = 0

    async def look(self, claims: Iterable[Claim]) -> dict[Place, Outcome]:
        """Outcome of every claim's request. Raises RetriableError when the log cannot be read."""
        found: dict[Place, Outcome] = {}
        wanted: dict[int, list[Claim]] = {}
        for claim in {each.place: each for each in claims}.values():
            if claim.place in self._kept:
                found[claim.place] = self._kept[claim.place]
            else:
                wanted.setdefault(claim.partition, []).append(claim)
        if wanted:
            await self._open()
        end = time.monotonic() + LOOK_S
        for partition, group in wanted.items():
            for near in _near(group):
                found |= await self._guarded(self._pass(TopicPartition(RESULTS, partition), near, end))
        return found

    async def request(self, claim: Claim) -> Any:
        """The record of the earlier request itself, or None when it is gone. Raises RetriableError."""
        return await self._guarded(self._request(TopicPartition(REQUESTS, claim.partition), claim.offset))

    async def _guarded(self, reading: Any) -> Any:
        try:
            return await reading
        except BaseException as error:  # also a cancelled look: its consumer is in an unknown state
            await self.close()
            if isinstance(error, KafkaError | OSError):
                raise UnreachableError("looking for an earlier request", str(error) or repr(error)) from error
            raise

    async def _open(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = consumer(
                self._connection,
                isolation_level="read_committed",
                max_partition_fetch_bytes=MIB,
                fetch_max_wait_ms=FETCH_WAIT_MS,
            )
            await start(reader, "connecting to look for earlier requests")
            self._reader = reader
        return self._reader

    async def _turn_to(self, place: TopicPartition) -> AIOKafkaConsumer:
        reader = await self._open()
        if reader.assignment() != {place}:
            reader.assign([place])
        return reader

    async def _pass(self, place: TopicPartition, claims: list[Claim], until: float) -> dict[Place, Outcome]:
        """Read from where the first of ``claims`` may be to the end of the log, or to a bound."""
        reader = await self._turn_to(place)
        last = (await bounded(reader.end_offsets([place]), CALL_S, "finding the end of results"))[place]
        position = await self._start(reader, place, claims)
        if position is None:
            return {claim.place: UNDER_WAY for claim in claims}
        reader.seek(place, position)
        reader.resume(place)
        wanted = {SOURCE.pack(self._topic_id, *claim.place): claim.place for claim in claims}
        found: dict[Place, Outcome] = {}
        count = 0
        while wanted and position < last and count < MAX_RECORDS and time.monotonic() < until:
            records = await bounded(reader.getmany(place, timeout_ms=100, max_records=FETCH), CALL_S, "reading")
            for record in records.get(place, ()):
                source = _header(record, SOURCE_HEADER)
                if source in wanted:
                    found[wanted.pop(source)] = self._outcome(record)
            count += len(records.get(place, ()))
            position = await reader.position(place)
            await asyncio.sleep(0)  # buffered records come without a wait: the loop has other work
        reader.pause(place)
        self.num_records += count
        for each in wanted.values():
            self._search_on(each, position)
        for each, outcome in found.items():
            self._keep(each, outcome)
        open_end = UNDER_WAY if position >= last else NOT_FOUND
        return {claim.place: found.get(claim.place, open_end) for claim in claims}

    async def _start(self, reader: AIOKafkaConsumer, place: TopicPartition, claims: list[Claim]) -> int | None:
        starts = [self._searched.get(claim.place, -1) for claim in claims]
        if min(starts) >= 0:
            return min(starts)
        since_ms = min(claim.received_us for claim in claims) // 1000 - SKEW_MS
        asked = reader.offsets_for_times({place: max(0, since_ms)})
        found = (await bounded(asked, CALL_S, "finding an earlier request"))[place]
        return None if found is None else int(found.offset)

    def _outcome(self, record: Any) -> Outcome:
        if _header(record, STATUS_HEADER) != b"O":
            return Outcome("ended")
        try:
            answer = self._codec.decode("inference.results", record.value)
            return Outcome("ended", answer, len(record.value) + 512)
        except PoisonRecordError:
            return Outcome("ended")  # nobody can repeat an answer that nobody can read: the id is free

    def _keep(self, place: Place, outcome: Outcome) -> None:
        self._searched.pop(place, None)
        self._kept[place] = outcome
        self._kept_bytes += outcome.num_bytes
        while len(self._kept) > MAX_KEPT or (self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= self._kept.pop(next(iter(self._kept))).num_bytes

    def _search_on(self, place: Place, position: int) -> None:
        self._searched.pop(place, None)
        self._searched[place] = position
        if len(self._searched) > MAX_KEPT:
            del self._searched[next(iter(self._searched))]

    async def _request(self, place: TopicPartition, offset: int) -> Any:
        reader = await self._turn_to(place)
        bounds = await bounded(reader.end_offsets([place]), CALL_S, "finding the end of requests")
        first = await bounded(reader.beginning_offsets([place]), CALL_S, "finding the start of requests")
        if not first[place] <= offset < bounds[place]:
            return None
        reader.seek(place, offset)
        reader.resume(place)
        until = time.monotonic() + LOOK_S
        found: list[Any] = []
        while not found and time.monotonic() < until:
            fetched = await bounded(reader.getmany(place, timeout_ms=200, max_records=1), CALL_S, "reading a request")
            found = fetched.get(place, [])
        reader.pause(place)
        return found[0] if found and found[0].offset == offset else None

    async def close(self) -> None:
        """Close the consumer; the next look opens another."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await stop_quietly(reader)


def _header(record: Any, name: str) -> bytes | None:
    return next((value for key, value in record.headers if key == name), None)


def _near(claims: list[Claim]) -> list[list[Claim]]:
    """Groups of claims whose requests came within ``NEAR_US`` of each group's first."""
    groups: list[list[Claim]] = []
    for claim in sorted(claims, key=lambda each: each.received_us):
        if groups and claim.received_us - groups[-1][0].received_us <= NEAR_US:
            groups[-1].append(claim)
        else:
            groups.append([claim])
    return groups
