"""The edge's loop: request records in, frames out.

A tick's records of one source partition become frames on ``inference.admitted`` (rows that passed) and
``inference.executed`` (rows that ended here), on the same partition number. Dead letters stand before the frames are
sent, and offsets are committed only behind frames that the broker has acknowledged; a redelivered request makes a row
again, which the Validator drops by its coordinate. Rows that met an earlier request with their id, and large ones, wait
beside the loop (``late_rows``); what would be done too late is refused (``screen``). Reads ``read_committed``: markers
and aborted records are gaps, noted in the row after them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

import numpy as np
from aiokafka import TopicPartition

from streams.check_id import TENANT
from streams.committed import CommittedConsumer
from streams.edge.forecast import Forecast
from streams.edge.late_rows import LateRow, LateRows, late_row
from streams.edge.line_up import line_up
from streams.edge.pace import Pace
from streams.edge.quota import QuotaStore
from streams.edge.refused_load import RefusedLoad
from streams.edge.request_ids import CLAIM, Claim, RequestIds, Span
from streams.edge.request_reader import RequestReader
from streams.edge.request_row import input_digest, row_bytes
from streams.edge.row_outlet import RowOutlet
from streams.edge.screen import too_late
from streams.edge.tick_part import TickPart
from streams.letters.letter import Letter
from streams.record_columns import RecordColumns, columns_of
from streams.topic_watch import Doubt
from streams.topics import full_name

REQUESTS: Final = full_name("inference.requests")
COMMIT_S: Final = 1.0
MAX_PIECES: Final = 8
"""Pieces of columns in one tick: of one partition what a fetch brought, or a thousand records of it."""
MAX_IN_FLIGHT: Final = 256
IDLE_MS: Final = 50


WriteLetters = Callable[[Sequence[Letter]], Awaitable[None]]


@dataclass(slots=True)
class EdgeCounts:
    """What this process did since its start."""

    num_requests: int = 0
    num_refused: int = 0


_Claimed = tuple[TickPart, int, bytes, bytes]
"""A request that claims its id: its part of the tick, index there, key and packed claim. One per request: a tuple."""


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
        forecast: Forecast | None = None,
    ) -> None:
        self._source = source
        self._doubt = doubt
        self._forecast = Forecast() if forecast is None else forecast
        self._requests = requests
        self._quota = quota
        self._ids = ids
        self._outlet = outlet
        self._late = late
        self._write_letters = write_letters
        self._tick_s = tick_ms / 1000
        self._pace = Pace(self._tick_s)
        self._blob_bytes = blob_bytes
        self._expected: dict[TopicPartition, int] = {}
        self._expected_generation = -1
        self.counts = EdgeCounts()
        self.refused = RefusedLoad(time.time_ns() // 1000)

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
        next_commit = time.perf_counter()
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
            if fetched and (wait_s := self._pace.wait_s(time.perf_counter(), len(source.partitions))) > 0:
                await asyncio.sleep(wait_s)

    async def _fetch(self) -> dict[TopicPartition, RecordColumns]:
        """What came since the last tick: the consumer fetches when it is asked to."""
        found = await self._source.read(timeout_ms=IDLE_MS, max_records=MAX_PIECES)
        return {place: columns_of(place.topic, place.partition, pieces) for place, pieces in found.items()}

    async def _settle(self, fetched: Mapping[TopicPartition, RecordColumns]) -> None:
        """Make sure that what was fetched is of the topic that this process knows."""
        if self._doubt is None:
            return
        if self._expected_generation != self._source.generation or any(
            records.first < self._expected.get(place, 0) for place, records in fetched.items()
        ):
            self._doubt.rise()
        await self._doubt.settle()

    async def _take(self, fetched: Mapping[TopicPartition, RecordColumns]) -> None:
        """Make the frames of one fetch. A rebalance meanwhile voids it: everything is read again."""
        generation = self._source.generation
        parts: list[TickPart] = []
        letters: list[Letter] = []
        for place, records in fetched.items():
            first = await self._position(place, records.first, generation)
            if generation != self._source.generation:
                return
            progress = self._source.progress(place)
            self._expected[place] = records.end
            batch = await self._requests.batch(records, first, letters, self._blob_bytes)
            parts.append(TickPart.of(progress, batch, Span(first, records.end)))
        if letters:
            await self._write_letters(letters)
        await self._charge(parts)
        self._screen(parts)
        claimed, large = self._claims(parts)
        spans = {part.batch.partition: part.span for part in parts}
        met = await self._ids.claim([(key, claim) for _, _, key, claim in claimed], spans)
        if generation != self._source.generation:
            return
        self.counts.num_requests += sum([len(part.batch) for part in parts])
        await self._flush(parts, {at: (claimed[at], held) for at, held in met.items()}, large)

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

    async def _charge(self, parts: Sequence[TickPart]) -> None:
        """End the rows whose tenant is above its rate."""
        asked = [(part, chosen) for part in parts if len(chosen := np.flatnonzero(part.passed))]
        waits = await self._quota.charge([part.charges(chosen) for part, chosen in asked])
        for (part, chosen), refused in zip(asked, waits, strict=True):
            for index, wait in refused.items():
                at = int(chosen[index])
                message = f"tenant {part.row(at).tenant} is above its request rate"
                part.refuse(at, "quota_exceeded", message, -(-wait // 1000))

    def _screen(self, parts: Sequence[TickPart]) -> None:
        """End the rows that would be done too late."""
        now_us = time.time_ns() // 1000
        for part in parts:
            for at, message, retry_after_ms in too_late(part.batch, part.passed, part.rows, self._forecast, now_us):
                part.refuse(at, "overloaded", message, retry_after_ms)
                row = part.row(at)
                if row.tenant != TENANT:
                    self.refused.add(row.model, row.items)

    def _claims(self, parts: Sequence[TickPart]) -> tuple[list[_Claimed], list[tuple[TickPart, int, bytes]]]:
        """The claims of the rows that passed, in the order of their offsets; part, index and key of large rows."""
        claimed: list[_Claimed] = []
        large: list[tuple[TickPart, int, bytes]] = []
        key_of, pack = self._ids.key, CLAIM.pack
        for part in parts:
            batch, partition = part.batch, part.batch.partition
            chosen = part.columnar()
            signatures, numbers = batch.signatures, batch.signature[chosen].tolist()
            offsets, times = batch.offsets[chosen].tolist(), batch.received_us[chosen].tolist()
            own = [
                (part, at, key_of(signatures[number].tenant, name), pack(partition, offset, time_us, digest))
                for at, number, name, offset, time_us, digest in zip(
                    chosen.tolist(), numbers, batch.ids(chosen), offsets, times, batch.digests(chosen), strict=True
                )
            ]
            num_own = len(own)
            for at, row in part.rows.items():
                if not part.passed[at]:
                    continue
                key = key_of(row.tenant, row.request_id)
                if row.blob is not None or row_bytes(row) > self._blob_bytes:
                    large.append((part, at, key))
                else:
                    claim = pack(partition, row.offset, row.received_us, input_digest(row))
                    own.append((part, at, key, claim))
            if num_own < len(own):
                own.sort(key=itemgetter(1))
            claimed += own
        return claimed, large

    async def _flush(
        self,
        parts: Sequence[TickPart],
        met: Mapping[int, tuple[_Claimed, Claim]],
        large: Sequence[tuple[TickPart, int, bytes]],
    ) -> None:
        """Send the tick's rows; what must wait keeps its partition's entry open."""
        holders = {part.batch.partition: (part.progress, part.progress.window.start(part.span.end)) for part in parts}
        away: dict[tuple[int, int], LateRow] = {}
        storing: list[LateRow] = []
        for part, at, key in large:
            number = part.batch.partition
            storing.append(late_row(holders[number], part.row(at), key, number))
            away[number, at] = storing[-1]
        for (part, at, key, claim), held in met.values():
            number = part.batch.partition
            late = LateRow(holders[number], part.row(at), key, Claim.unpack(claim), held)
            if self._late.wait(late):
                away[number, at] = late
        ordered = self._outlet.ordered()
        if ordered:
            self._late.lines.is_open = False  # what waited must not pass the rows of this tick
            for part in parts:
                line_up(part, holders[part.batch.partition], away, self._late, ordered)
        self._late.store(storing)
        for part in parts:
            number = part.batch.partition
            holder = holders[number]
            rows = [row for at, row in sorted(part.rows.items()) if (number, at) not in away]
            self.counts.num_refused += sum([row.error is not None for row in rows])
            await self._outlet.send_batch(part.batch, part.columnar(), rows, [holder])
            holder[0].finish(holder[1])
        if ordered:
            await self._late.resume()
