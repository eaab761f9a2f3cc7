"""A Validator partition's logs: claim, rebuild the ledger, write results and checkpoints, re-read requests.

Order on taking over: fence ``results``, then read the last checkpoint, then fold ``results`` from its offset to the
end. Coordinates are in record headers, so folding decodes nothing. Readiness compares the reader's position with the
end offset, never the last record's: the log ends in the claim's own marker.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.frame import Segment
from schemas.ledger import LedgerCheckpoint
from streams.codec import Codec
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.errors import PoisonRecordError, RetriableError
from streams.fenced import FencedWriter
from streams.frame_builder import Row, frame_of_rows
from streams.frame_effects import Scanned, ScanRequests
from streams.ledger import REAPED_HEADER, source_of
from streams.terminals import Terminals
from streams.topics import full_name

log = logging.getLogger(__name__)

REQUESTS: Final = full_name("inference.requests")
RESULTS: Final = full_name("inference.results")
CHECKPOINTS: Final = full_name("inference.ledger-checkpoints")
READ_TIMEOUT_S: Final = 30.0
MAX_ID_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a take-over found: terminals, the results offset folded to, reaped results so far."""

    terminals: Terminals
    results_offset: int
    num_reaped: int


class LedgerLog:
    """The logs of one partition, owned from ``take_over`` to ``close``."""

    def __init__(
        self, connection: Connection, codec: Codec, topic_id: bytes, partition: int, *, fence: bool = True
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._topic_id = topic_id
        self.partition = partition
        self._fence = fence
        self._results: FencedWriter | None = None
        self._checkpoints: FencedWriter | None = None
        self._scanner: AIOKafkaConsumer | None = None

    async def take_over(self) -> Rebuilt:
        """Shut predecessors out of results and checkpoints, then rebuild what has a result."""
        self._results = await FencedWriter.claim(self._connection, RESULTS, self.partition, fence=self._fence)
        self._checkpoints = await FencedWriter.claim(self._connection, CHECKPOINTS, self.partition, fence=self._fence)
        log.info("results-%d is claimed with producer id and epoch %s", self.partition, self._results.producer_id)
        reader = consumer(self._connection, isolation_level="read_committed")
        await start(reader, f"reading the ledger of partition {self.partition}")
        try:
            return await bounded(self._rebuild(reader), READ_TIMEOUT_S * 4, f"folding results-{self.partition}")
        except KafkaError as error:
            raise RetriableError(f"folding results-{self.partition} failed: {error}") from error
        finally:
            await stop_quietly(reader)

    @property
    def results(self) -> FencedWriter:
        """The claimed writer of the results partition."""
        if self._results is None:
            raise RetriableError("the partition is not claimed")
        return self._results

    async def _rebuild(self, reader: AIOKafkaConsumer) -> Rebuilt:
        first = (await reader.beginning_offsets([TopicPartition(REQUESTS, self.partition)])).popitem()[1]
        checkpoint = await self._last_checkpoint(reader)
        terminals, start_at, reaped = Terminals.starting_at(first), 0, 0
        if checkpoint is not None:
            terminals = Terminals.from_bits(checkpoint.low_watermark, checkpoint.bits)
            if first > checkpoint.low_watermark:  # retention took the rest: gaps
                terminals = terminals.mark_set(np.arange(checkpoint.low_watermark, first, dtype=np.int64))
            start_at, reaped = checkpoint.results_offset, checkpoint.num_reaped
        offsets: list[int] = []
        end = start_at
        async for record in self._until_end(reader, RESULTS, start_at):
            source = source_of(record.headers)
            if source is not None and source[0] == self._topic_id and source[1] == self.partition:
                offsets.append(source[2])
                reaped += any(name == REAPED_HEADER for name, _ in record.headers)
            end = record.offset + 1
        if offsets:
            terminals = terminals.mark_set(np.array(offsets, np.int64))
        log.info(
            "results-%d folded: low watermark %d, %d results since the checkpoint",
            self.partition,
            terminals.low_watermark,
            len(offsets),
        )
        return Rebuilt(terminals, end, reaped)

    async def _last_checkpoint(self, reader: AIOKafkaConsumer) -> LedgerCheckpoint | None:
        found: LedgerCheckpoint | None = None
        async for record in self._until_end(reader, CHECKPOINTS, 0):
            try:
                checkpoint = self._codec.decode("inference.ledger-checkpoints", record.value)
            except PoisonRecordError as error:
                log.warning(
                    "checkpoint at %s-%d offset %d is unreadable: %s", CHECKPOINTS, self.partition, record.offset, error
                )
                continue
            if checkpoint.topic_id == self._topic_id:
                found = checkpoint
        return found

    async def _until_end(self, reader: AIOKafkaConsumer, topic: str, first: int) -> Any:
        """Records of this partition of ``topic`` from ``first`` to the end as it stands now."""
        target = TopicPartition(topic, self.partition)
        reader.assign([target])
        end = (await reader.end_offsets([target]))[target]
        begin = (await reader.beginning_offsets([target]))[target]
        reader.seek(target, max(first, begin))
        while await reader.position(target) < end:
            for batch in (await reader.getmany(target, timeout_ms=200)).values():
                for record in batch:
                    yield record

    async def write_checkpoint(self, checkpoint: LedgerCheckpoint) -> None:
        """Write a checkpoint; raises like ``FencedWriter.send``."""
        if self._checkpoints is None:
            raise RetriableError("the partition is not claimed")
        key = str(self.partition).encode()
        await self._checkpoints.send(key, self._codec.encode("inference.ledger-checkpoints", checkpoint))

    async def scan(self, request: ScanRequests) -> Scanned:
        """Re-read requests for the reaper (``read_committed``); a record younger than ``before_us`` ends the scan."""
        if self._scanner is None:
            self._scanner = consumer(self._connection, isolation_level="read_committed")
            await start(self._scanner, "starting the reaper's reader")
        reader, target = self._scanner, TopicPartition(REQUESTS, self.partition)
        reader.assign([target])
        begin = (await reader.beginning_offsets([target]))[target]
        reader.seek(target, max(request.first, begin))
        # One more fetch than needed would block on an idle log, so the scan ends at the last stable offset.
        stable = await _last_stable(reader, target)
        rows: list[Row] = []
        end = max(request.first, begin)
        while end < min(stable, request.end):
            batches = await reader.getmany(target, timeout_ms=500, max_records=5_000)
            for record in batches.get(target, ()):
                if record.timestamp * 1000 >= request.before_us or record.offset >= request.end:
                    return self._scanned(request.first, record.offset, rows)
                rows.append(self._row(record))
            position = await reader.position(target)
            if position == end and not batches:
                break
            end = position
        return self._scanned(request.first, end, rows)

    def _row(self, record: Any) -> Row:
        request_id, tenant, model = fallback_id(record.key, record.partition, record.offset), "default", ""
        try:
            request = self._codec.decode("inference.requests", record.value)
        except PoisonRecordError:
            pass
        else:
            request_id = identity_of(request.request_id, request_id)
            tenant, model = request.tenant[:64], request.model[:64]
        return Row(record.offset, 0, record.timestamp * 1000, 0, 5, request_id, tenant, b"", model, "", 0, ())

    def _scanned(self, first: int, end: int, rows: list[Row]) -> Scanned:
        offsets = np.array([row.offset for row in rows], np.int64)
        if not rows:
            return Scanned(first, end, offsets, None)
        frame = frame_of_rows(
            rows, [Segment(row.model, "", "", 1) for row in rows], 0, 0, self._topic_id, self.partition, 0
        )
        return Scanned(first, end, offsets, frame)

    async def close(self) -> None:
        """Close all clients; what is unconfirmed stays unknown."""
        clients = [client for client in (self._results, self._checkpoints, self._scanner) if client is not None]
        self._results = self._checkpoints = self._scanner = None
        await asyncio.gather(*(stop_quietly(client) for client in clients))


async def _last_stable(reader: AIOKafkaConsumer, target: TopicPartition) -> int:
    """End of what ``reader`` (read_committed) may see now."""
    return int((await reader.end_offsets([target]))[target])


def fallback_id(key: bytes | None, partition: int, offset: int) -> bytes:
    """Id of a record that names none: its key if that may be an id, else ``<partition>-<offset>``."""
    name = f"{partition}-{offset}".encode()
    try:
        return name if key is None else identity_of(key.decode(), name)
    except UnicodeDecodeError:
        return name


def identity_of(request_id: str, fallback: bytes) -> bytes:
    """The id as UTF-8 if it has 1 to 64 characters and at most 255 bytes (a frame's id lengths are uint8)."""
    encoded = request_id.encode()
    return encoded if 1 <= len(request_id) <= 64 and len(encoded) <= MAX_ID_BYTES else fallback
