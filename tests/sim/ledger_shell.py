"""A Validator partition's logs as simulated: claim, rebuild, write through the fence, re-read requests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agents.validator import ValidatorState
from schemas.frame import Segment
from schemas.ledger import LedgerCheckpoint
from schemas.request import InferenceRequest
from streams.columns import Row, frame_of_rows
from streams.errors import PoisonRecordError
from streams.frame_effects import Answer, Scanned, ScanRequests
from streams.ledger import REAPED_HEADER, source_of
from streams.ledger_log import fallback_id
from streams.memory_log import LogRecord
from streams.results import encode_results
from streams.terminals import Terminals
from tests.sim.processes import Process
from tests.sim.world import TOPIC_ID, Outcome, Sending

RESULTS = "inference.results"
CHECKPOINTS = "inference.ledger-checkpoints"
REQUESTS = "inference.requests"
MAX_CHUNK = 4


class LedgerShell:
    """Mirrors ``streams.ledger_log.LedgerLog``, its take-over cut into four steps. Owner of its own links."""

    def __init__(self, process: Process, partition: int) -> None:
        self.process = process
        self.world = process.world
        self.partition = partition
        self.open = True
        self.stage = 0
        self.results: tuple[int | None, int] = (None, 0)
        self.checkpoints: tuple[int | None, int] = (None, 0)
        self.checkpoint: LedgerCheckpoint | None = None
        self.rebuilt: ValidatorState | None = None

    @property
    def alive(self) -> bool:
        """Whether somebody takes the outcomes of its sends."""
        return self.open and self.process.alive

    def advance(self) -> str:
        """The next part of the take-over."""
        self.stage += 1
        fence = not self.world.bugs.no_fence
        if self.stage == 1:
            self.results = self.world.claim(RESULTS, self.partition, fence=fence)
            return f"claims results as number {self.results[1]}"
        if self.stage == 2:
            self.checkpoints = self.world.claim(CHECKPOINTS, self.partition, fence=fence)
            return f"claims checkpoints as number {self.checkpoints[1]}"
        if self.stage == 3:
            for record in self.world.log.scan(CHECKPOINTS, self.partition):
                self.checkpoint = self.world.wire.decode(CHECKPOINTS, record.value)
            return "reads the checkpoint"
        self.rebuilt = self.fold()
        self.world.count("take-overs")
        return f"folded, low watermark {self.rebuilt.terminals.low_watermark}"

    def fold(self) -> ValidatorState:
        """As ``LedgerLog._rebuild``."""
        terminals, start, reaped = Terminals.starting_at(0), 0, 0
        if self.checkpoint is not None:
            terminals = Terminals.from_bits(self.checkpoint.low_watermark, self.checkpoint.bits)
            start, reaped = self.checkpoint.results_offset, self.checkpoint.num_reaped
        offsets, end = [], start
        for record in self.world.log.scan(RESULTS, self.partition, start):
            source = source_of(record.headers)
            if source is not None and source[:2] == (TOPIC_ID, self.partition):
                offsets.append(source[2])
                reaped += any(name == REAPED_HEADER for name, _ in record.headers)
            end = record.offset + 1
        if offsets:
            terminals = terminals.mark_set(np.array(offsets, np.int64))
        return ValidatorState(TOPIC_ID, self.partition, terminals, end, reaped)

    def write_results(self, answer: Answer, done: Callable[[Outcome], None]) -> int:
        """Send the results in chunks; ``done`` hears of each. Returns how many chunks there are."""
        records = encode_results(self.world.wire.codec, answer.frame, answer.completed_us, reaped=answer.reaped)
        chunks = 0
        while records:
            size = self.world.rng.randint(1, MAX_CHUNK)
            chunk, records = records[:size], records[size:]
            self.world.send(self, RESULTS, self.partition, Sending(chunk, done, *self.results))
            chunks += 1
        return chunks

    def write_checkpoint(self, checkpoint: LedgerCheckpoint, done: Callable[[Outcome], None]) -> None:
        """Send a checkpoint."""
        value = self.world.wire.encode(CHECKPOINTS, checkpoint)
        record = (str(self.partition).encode(), value, ())
        self.world.send(self, CHECKPOINTS, self.partition, Sending([record], done, *self.checkpoints))

    def scan(self, request: ScanRequests) -> Scanned:
        """As ``LedgerLog.scan``."""
        rows: list[Row] = []
        for record in self.world.log.scan(REQUESTS, self.partition, request.first):
            if record.timestamp_us // 1000 * 1000 >= request.before_us or record.offset >= request.end:
                return self._scanned(request.first, record.offset, rows)
            rows.append(self._row(record))
        return self._scanned(request.first, max(request.first, self.world.end((REQUESTS, self.partition))), rows)

    def _scanned(self, first: int, end: int, rows: list[Row]) -> Scanned:
        offsets = np.array([row.offset for row in rows], np.int64)
        if not rows:
            return Scanned(first, end, offsets, None)
        segments = [Segment(row.model, "", "", 1) for row in rows]
        return Scanned(first, end, offsets, frame_of_rows(rows, segments, 0, 0, TOPIC_ID, self.partition, 0))

    def _row(self, record: LogRecord) -> Row:
        request_id, tenant, model = fallback_id(record.key, record.partition, record.offset), "default", ""
        try:
            request: InferenceRequest = self.world.wire.decode(REQUESTS, record.value)
        except PoisonRecordError:
            pass
        else:
            request_id, tenant, model = request.request_id.encode() or request_id, request.tenant, request.model
        return Row(
            record.offset, 0, record.timestamp_us // 1000 * 1000, 0, 5, request_id, tenant, b"", model, "", 0, ()
        )

    def close(self) -> None:
        """Give the claim up without a word; what is under way lands later or never."""
        self.open = False
        self.world.orphan(self)
