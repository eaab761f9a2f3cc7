"""The edge's loop: request records in, frames out.

A tick's records of one source partition become frames on ``inference.admitted`` (rows that passed) and
``inference.executed`` (rows that ended here), on the same partition number. Dead letters stand before the frames are
sent, and offsets are committed only behind frames that the broker has acknowledged; a redelivered request makes a row
again, which the Validator drops by its coordinate. Rows that met an earlier request with their id, and large ones, wait
beside the loop (``late_rows``). Reads ``read_committed``: markers and aborted records are gaps, noted in the
row after them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition

from streams.columns import Row
from streams.committed import CommittedConsumer, Holder, Progress
from streams.edge.late_rows import LateRow, LateRows, late_row
from streams.edge.quota import Charge, QuotaStore
from streams.edge.request_ids import CLAIM, Claim, RequestIds, Span
from streams.edge.request_reader import RequestReader
from streams.edge.request_row import end, input_digest, row_bytes
from streams.edge.row_outlet import RowOutlet
from streams.letters.letter import Letter
from streams.topic_watch import Doubt
from streams.topics import full_name

REQUESTS: Final = full_name("inference.requests")
COMMIT_S: Final = 1.0
MAX_TICK_RECORDS: Final = 5_000
MAX_IN_FLIGHT: Final = 256
FRAMES_PER_S: Final = 100
"""Frame budget of a process: a frame costs every stage and the broker as much as some twenty rows do."""
IDLE_MS: Final = 50
DRAIN_MS: Final = 2


WriteLetters = Callable[[Sequence[Letter]], Awaitable[None]]


@dataclass(slots=True)
class EdgeCounts:
    """What this process did since its start."""

    num_requests: int = 0
    num_refused: int = 0


@dataclass(slots=True)
class _Candidate:
    """A row of the tick under way; ``passed`` until something ends it."""

    progress: Progress
    row: Row
    passed: bool


class Edge:
    """One edge process. ``requests`` makes rows of its records; rows above ``blob_bytes`` are stored as blobs."""

    def __init__(
        self,
        source: CommittedConsumer,
        requests: RequestReader,
        quota: QuotaStore,
        ids: RequestIds,
        outlet: RowOutlet,
        late: LateRows,
        write_letters: WriteLetters,
        *,
        tick_ms: int,
        blob_bytes: int,
        doubt: Doubt | None = None,
    ) -> None:
        self._source = source
        self._doubt = doubt
        self._requests = requests
        self._quota = quota
        self._ids = ids
        self._outlet = outlet
        self._late = late
        self._write_letters = write_letters
        self._tick_s = tick_ms / 1000
        self._blob_bytes = blob_bytes
        self._expected: dict[TopicPartition, int] = {}
        self._expected_generation = -1
        self.counts = EdgeCounts()

    async def run(self) -> None:
        """Run until cancelled. Raises RetriableError when a frame's fate is unknown: the process starts anew."""
        late = asyncio.ensure_future(self._late.run())
        late.add_done_callback(self._late_ended)
        try:
            await self._loop()
        finally:
            late.cancel()
            await asyncio.wait({late})

    def _late_ended(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._source.fail(error)

    async def _loop(self) -> None:
        source = self._source
        source.subscribe()
        next_tick = next_commit = time.perf_counter()
        while True:
            source.check()
            fetched = await self._fetch()
            if fetched:
                generation = source.generation
                await self._settle(fetched)
                if generation == source.generation:
                    await self._take(fetched)
            now = time.perf_counter()
            if now >= next_commit:
                await source.commit()
                next_commit = now + COMMIT_S
            while (source.in_flight >= MAX_IN_FLIGHT or self._late.is_full) and not source.failed:
                await asyncio.sleep(self._tick_s)
            next_tick = max(next_tick + max(self._tick_s, len(source.partitions) / FRAMES_PER_S), now)
            if next_tick > now:
                await asyncio.sleep(next_tick - now)

    async def _fetch(self) -> dict[TopicPartition, list[Any]]:
        """What the tick brought; a rebalance between its two halves voids the first.

        The client's buffer holds only what the broker had when the last fetch came, the first records after the last
        drain; the next fetch is sent now that it is empty and brings the others, which would else wait another tick.
        """
        read = self._source.read
        fetched = await read(timeout_ms=IDLE_MS, max_records=MAX_TICK_RECORDS)
        if not fetched:
            return fetched
        generation = self._source.generation
        more = await read(timeout_ms=DRAIN_MS, max_records=MAX_TICK_RECORDS)
        if generation != self._source.generation:
            return more
        for place, records in more.items():
            fetched.setdefault(place, []).extend(records)
        return fetched

    async def _settle(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        """Make sure that what was fetched is of the topic that this process knows."""
        if self._doubt is None:
            return
        if self._expected_generation != self._source.generation or any(
            records[0].offset < self._expected.get(place, 0) for place, records in fetched.items()
        ):
            self._doubt.rise()
        await self._doubt.settle()

    async def _take(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        """Make the frames of one fetch. A rebalance meanwhile voids it: everything is read again."""
        generation = self._source.generation
        candidates: list[_Candidate] = []
        letters: list[Letter] = []
        spans: dict[int, Span] = {}
        for place, records in fetched.items():
            first = await self._position(place, records[0].offset, generation)
            if generation != self._source.generation:
                return
            progress = self._source.progress(place)
            for record in records:
                row, passed = await self._row(place, record, letters)
                candidates.append(_Candidate(progress, row, passed))
            spans[place.partition] = Span(first, records[-1].offset + 1)
        if letters:
            await self._write_letters(letters)
        await self._charge(candidates)
        claims, large = self._claims(candidates)
        met = await self._ids.claim([(key, claim) for _, key, claim in claims], spans)
        if generation != self._source.generation:
            return
        self.counts.num_requests += len(candidates)
        await self._flush(candidates, {id(claims[at][0]): (claims[at], held) for at, held in met.items()}, large, spans)

    async def _position(self, place: TopicPartition, first: int, generation: int) -> int:
        """The offset expected next: behind what this generation read, else the committed one, else the log's start."""
        if self._expected_generation != generation:
            self._expected, self._expected_generation = {}, generation
        expected = self._expected.get(place)
        if expected is None:
            # An offset behind what was read is another edge's, of whose generation this one has not heard yet. Where
            # this one began is not known then, and nothing may be called a gap.
            expected = min(await self._source.start_of(place), first)
            if generation == self._source.generation:
                self._expected[place] = expected
                self._ids.forget([place.partition])
        return expected

    async def _row(self, place: TopicPartition, record: Any, letters: list[Letter]) -> tuple[Row, bool]:
        gap = max(0, record.offset - self._expected[place])
        self._expected[place] = record.offset + 1
        return await self._requests.row(record, gap, letters)

    async def _charge(self, candidates: Sequence[_Candidate]) -> None:
        """End the rows whose tenant is above its rate."""
        passed = [each for each in candidates if each.passed]
        waits = await self._quota.charge(
            [
                Charge(each.progress.place.partition, each.row.offset, each.row.tenant, each.row.received_us)
                for each in passed
            ]
        )
        for each, wait in zip(passed, waits, strict=True):
            if wait >= 0:
                end(each.row, "quota_exceeded", f"tenant {each.row.tenant} is above its request rate", -(-wait // 1000))
                each.passed = False

    def _claims(self, candidates: Sequence[_Candidate]) -> tuple[list[tuple[Row, bytes, bytes]], dict[int, bytes]]:
        """Row, key and claim of each row that passed; the keys of large rows, by identity, which claim later."""
        claims, large = [], {}
        for each in candidates:
            if not each.passed:
                continue
            row = each.row
            key = self._ids.key(row.tenant, row.request_id)
            if row.blob is not None or row_bytes(row) > self._blob_bytes:
                large[id(row)] = key
            else:
                place = each.progress.place.partition
                claims.append((row, key, CLAIM.pack(place, row.offset, row.received_us, input_digest(row))))
        return claims, large

    async def _flush(
        self,
        candidates: Sequence[_Candidate],
        met: Mapping[int, tuple[tuple[Row, bytes, bytes], Claim]],
        large: Mapping[int, bytes],
        spans: Mapping[int, Span],
    ) -> None:
        """Send the tick's rows; what must wait keeps its partition's entry open."""
        groups: dict[int, tuple[Holder, list[Row]]] = {}
        storing: list[LateRow] = []
        for each in candidates:
            number, row = each.progress.place.partition, each.row
            if number not in groups:
                groups[number] = (each.progress, each.progress.window.start(spans[number].end)), []
            holder, rows = groups[number]
            if id(row) in large:
                storing.append(late_row(holder, row, large[id(row)], number))
            elif id(row) in met:
                (_, key, claim), held = met[id(row)]
                if not self._late.wait(LateRow(holder, row, key, Claim.unpack(claim), held)):
                    rows.append(row)
            else:
                rows.append(row)
            self.counts.num_refused += row.error is not None
        self._late.store(storing)
        for number, (holder, rows) in groups.items():
            await self._outlet.send_rows(number, rows, [holder])
            holder[0].finish(holder[1])
