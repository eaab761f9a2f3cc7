"""Rows that need more than their tick: those that met an earlier request with their id, and those with a blob.

They wait beside the edge's loop, so that no other request is delayed; their offset is not committed before they have
left. Rows of an ordered model wait in the line of their key (``key_lines``), with those that came behind them. The
rules for a met id: finished OK with the same input, the earlier answer again as a result of the new coordinate; still
under way, ``duplicate_in_flight``; another input, ``id_conflict``; ended otherwise, the id is free and the new request
takes it. How many rows wait is bounded; beyond, and when results cannot be read, a row is told to come again
(``duplicate_in_flight`` with ``retry_after_ms``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas.result import InferenceResult
from streams.blobs.blob_store import BlobStore
from streams.committed import CommittedConsumer, Holder
from streams.edge.answered import answer_frames
from streams.edge.earlier import NOT_FOUND, EarlierResults, Outcome
from streams.edge.key_lines import KeyLines
from streams.edge.request_ids import NO_DIGEST, Claim, RequestIds
from streams.edge.request_row import end, input_data, input_digest, row_bytes
from streams.edge.row_outlet import RowOutlet
from streams.errors import IsosError, RetriableError
from streams.frame_builder import Row
from streams.ordering import Entry

log = logging.getLogger(__name__)

MAX_WAITING: Final = 5_000
MAX_WAITING_BYTES: Final = 64 << 20
MAX_STORING_BYTES: Final = 128 << 20
MAX_STORING: Final = 5_000
MAX_STORES: Final = 4
MAX_HOLDERS: Final = 5
"""How often a row may find that another one took the id that had become free."""
MAX_LOOKS: Final = 3
"""How often a look for a row may reach its bound."""
ROUND_S: Final = 0.01
RETRY_AFTER_MS: Final = 1_000

DigestOf = Callable[[Any], bytes | None]


@dataclass(eq=False, slots=True)
class LateRow:
    """A row, the holder of its offset, and its claim; ``earlier`` is the claim that it met, ``answer`` its result."""

    holder: Holder
    row: Row
    key: bytes
    claim: Claim
    earlier: Claim | None = None
    answer: InferenceResult | None = None
    num_holders: int = 0
    num_looks: int = 0
    is_lined_up: bool = False
    is_ready: bool = False


@dataclass(slots=True)
class LateCounts:
    """What became of repeated ids, and of blobs, since the start."""

    num_answered_again: int = 0
    num_in_flight: int = 0
    num_conflicts: int = 0
    num_freed: int = 0
    num_blobs: int = 0
    num_not_stored: int = 0


class LateRows:
    """The waiting rows of one edge. ``digest_of`` gives the input digest of a request record that would be admitted."""

    def __init__(
        self,
        source: CommittedConsumer,
        outlet: RowOutlet,
        ids: RequestIds,
        earlier: EarlierResults,
        blobs: BlobStore,
        digest_of: DigestOf,
    ) -> None:
        self.counts = LateCounts()
        self._source = source
        self._outlet = outlet
        self._ids = ids
        self._earlier = earlier
        self._blobs = blobs
        self._digest_of = digest_of
        self._waiting: list[LateRow] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._storing_bytes = 0
        self._stores = asyncio.Semaphore(MAX_STORES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._said_unreadable = False
        self.lines = KeyLines()

    @property
    def is_full(self) -> bool:
        """Whether so much is on its way into the blob store that nothing new should be read."""
        return (
            self._storing_bytes >= MAX_STORING_BYTES
            or len(self._tasks) >= MAX_STORING
            or self.lines.num_rows >= MAX_WAITING
            or self.lines.num_bytes >= MAX_WAITING_BYTES
        )

    def follow(self, late: LateRow) -> None:
        """Hold a row that waits for nothing but the line of its key."""
        late.is_ready = True
        self._hold(late)
        self.lines.join(late)

    async def resume(self) -> None:
        """Open the lines after a tick's own rows were sent. Raises RetriableError."""
        self.lines.is_open = True
        await self._leave([])

    def wait(self, late: LateRow) -> bool:
        """Queue a row that met an earlier claim; False, and the row ended, when too many wait."""
        size = row_bytes(late.row)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._tell(late, "too many repeated ids wait to be looked up", RETRY_AFTER_MS)
            return False
        self._hold(late)
        self._waiting.append(late)
        self._waiting_bytes += size
        self._wake.set()
        return True

    def store(self, rows: Sequence[LateRow]) -> None:
        """Begin to store or touch the blobs of a tick's rows; each leaves when its own is done."""
        for late in rows:
            self._hold(late)
            task = asyncio.ensure_future(self._store_one(late))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _hold(self, late: LateRow) -> None:
        progress, entry = late.holder
        progress.window.add(entry)

    def _release(self, late: LateRow) -> None:
        progress, entry = late.holder
        progress.finish(entry)

    def _ended(self, done: asyncio.Task[None]) -> None:
        self._tasks.discard(done)
        if not done.cancelled() and (error := done.exception()) is not None:
            self._source.fail(error)

    async def run(self) -> None:
        """Resolve waiting rows until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                rows, self._waiting, self._waiting_bytes = self._waiting, [], 0
                await self._resolve([late for late in rows if self._source.is_current(late.holder[0])])
                await asyncio.sleep(ROUND_S)  # rows of several ticks share a look
        finally:
            for task in self._tasks:
                task.cancel()
            await self._earlier.close()

    async def _resolve(self, rows: list[LateRow]) -> None:
        claims = [late.earlier for late in rows if late.earlier is not None]
        try:
            outcomes = await self._earlier.look(claims)
        except RetriableError as error:
            if not self._said_unreadable:
                log.warning("results cannot be read (%s); repeated ids are told to come again", error)
            self._said_unreadable, outcomes = True, {}
        else:
            self._said_unreadable = False
        leaving: list[LateRow] = []
        for late in rows:
            assert late.earlier is not None
            outcome = outcomes.get(late.earlier.place, NOT_FOUND)
            if await self._judge(late, late.earlier, outcome):
                leaving.append(late)
        await self._leave(leaving)

    async def _judge(self, late: LateRow, earlier: Claim, outcome: Outcome) -> bool:
        """Give a row its end, its answer or its id; False when it must wait for another holder's outcome."""
        if outcome.state == "not_found":
            late.num_looks += 1
            return self._again(late, earlier, late.num_looks <= MAX_LOOKS)
        if outcome.state == "ended" and outcome.answer is None:
            return await self._take_over(late, earlier)
        try:
            digest = earlier.digest if earlier.digest != NO_DIGEST else await self._digest_at(earlier)
        except RetriableError:
            self._tell(late, f"{_named(earlier)} cannot be read now", RETRY_AFTER_MS)
            return True
        if digest is None:
            return await self._take_over(late, earlier)
        if digest != late.claim.digest:
            self.counts.num_conflicts += 1
            end(late.row, "id_conflict", f"{_named(earlier)} has this id and another input")
        elif outcome.answer is None:
            self._tell(late, f"{_named(earlier)} has this id and is still being processed")
        else:
            self.counts.num_answered_again += 1
            late.answer = outcome.answer
        return True

    async def _digest_at(self, earlier: Claim) -> bytes | None:
        """Input digest of an earlier request, from its record; None when it is gone or would not be admitted now."""
        record = await self._earlier.request(earlier)
        return None if record is None else self._digest_of(record)

    async def _take_over(self, late: LateRow, earlier: Claim) -> bool:
        holder = await self._ids.take_over(late.key, earlier, late.claim)
        if holder.place == late.claim.place:
            self.counts.num_freed += 1
            return True
        late.num_holders += 1
        return self._again(late, holder, late.num_holders <= MAX_HOLDERS)

    def _again(self, late: LateRow, earlier: Claim, is_worth_it: bool) -> bool:
        """Queue a row once more, for what became of ``earlier``; True, and the row ended, when that is not worth it."""
        if not is_worth_it:
            self._tell(late, f"{_named(earlier)} has this id and could not be looked up in time", RETRY_AFTER_MS)
            return True
        late.earlier = earlier
        self._waiting.append(late)
        self._waiting_bytes += row_bytes(late.row)
        self._wake.set()
        return False

    def _tell(self, late: LateRow, message: str, retry_after_ms: int = 0) -> None:
        self.counts.num_in_flight += 1
        end(late.row, "duplicate_in_flight", message, retry_after_ms)

    async def _leave(self, rows: Sequence[LateRow]) -> None:
        """Send rows that wait for nothing any more, those in lines when their turn comes."""
        for late in rows:
            late.is_ready = True
        await self._send([late for late in rows if not late.is_lined_up])
        while self.lines and (going := self.lines.take(self._source.is_current)):
            await self._send(going)
            self.lines.left(going)

    async def _send(self, rows: Sequence[LateRow]) -> None:
        """Send what passed or ended; a row of an older generation is read again by whoever owns its partition."""
        groups: dict[int, list[LateRow]] = {}
        for late in rows:
            if self._source.is_current(late.holder[0]):
                groups.setdefault(late.holder[0].place.partition, []).append(late)
        for partition, group in groups.items():
            holders = list({id(late.holder[1]): late.holder for late in group}.values())
            answered = [(late.row, late.answer) for late in group if late.answer is not None]
            for frame in answer_frames(answered, self._outlet.topic_id, partition):
                await self._outlet.send_frame("inference.executed", frame, holders)
            await self._outlet.send_rows(partition, [late.row for late in group if late.answer is None], holders)
            for late in group:
                self._release(late)

    async def _store_one(self, late: LateRow) -> None:
        size = row_bytes(late.row)
        self._storing_bytes += size
        try:
            async with self._stores:
                await self._place(late.row)
        finally:
            self._storing_bytes -= size
        if late.row.error is None:
            digest = await asyncio.to_thread(input_digest, late.row)
            late.claim = replace(late.claim, digest=digest)
            met = await self._ids.claim([(late.key, late.claim.pack())], {})
            if met:
                late.earlier = met[0]
                if self.wait(late):
                    self._release(late)  # the wait holds it now
                    return
        await self._leave([late])

    async def _place(self, row: Row) -> None:
        """Store a row's data, or touch the blob that it names; data that no store takes stays in the row."""
        if row.blob is not None:
            try:
                if not await self._blobs.touch(row.blob.digest):
                    end(row, "blob_missing", f"no blob {row.blob.digest} is stored")
            except IsosError as error:
                log.warning("a blob could not be touched (%s); its executor will say whether it is there", error)
            return
        try:
            row.blob = await self._blobs.put(input_data(row))
        except IsosError as error:
            self.counts.num_not_stored += 1
            log.warning("a large request was not stored (%s); it travels inside its frame", error)
            return
        self.counts.num_blobs += 1
        row.blocks = tuple([(name, datatype, shape, b"") for name, datatype, shape, _ in row.blocks])


def late_row(progress_and_entry: tuple[Any, Entry[int]], row: Row, key: bytes, partition: int) -> LateRow:
    """A row whose digest is not known yet."""
    return LateRow(progress_and_entry, row, key, Claim(partition, row.offset, row.received_us, NO_DIGEST))


def _named(claim: Claim) -> str:
    return f"the request at partition {claim.partition} offset {claim.offset}"
