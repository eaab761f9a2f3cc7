"""From request records to rows: decode, admit, describe. The admission rule is a pure function from ``infra``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from schemas.request import BlobRef, InferenceRequest
from streams.codec import Codec
from streams.edge.request_batch import RequestBatch, batch_of
from streams.edge.request_row import blank_row, describe, end, input_digest
from streams.edge.signature import Signatures
from streams.errors import InvariantError, PoisonRecordError
from streams.frame_builder import Row
from streams.ledger_log import fallback_id
from streams.letters.letter import Letter
from streams.record_columns import RecordColumns
from streams.registry.schema_watch import SchemaWatch, decode_or_learn

TOPIC: Final = "inference.requests"


class Verdict(Protocol):
    """What the admission rule gives for a request that passed."""

    items: int
    timeout_ms: int
    blocks: tuple[tuple[str, str, tuple[int, ...], bytes], ...]
    blob: BlobRef | None


Admit = Callable[[InferenceRequest], Any]
"""Gives a ``Verdict``, or a refusal with ``code``, ``message`` and ``retry_after_ms``."""


NO_PREFIX: Final = bytes([255] * 5)
"""Before no value: the first byte of each is 0."""


class RequestReader:
    """Makes rows by one codec and one rule; ``schemas`` learns of schemas that the codec does not know yet.

    ``memory_sequence``: as of which the rule judges; while it stands the rule's verdicts are kept. Without it none is.
    """

    def __init__(
        self,
        codec: Codec,
        admit: Admit,
        schemas: SchemaWatch | None = None,
        memory_sequence: Callable[[], int] | None = None,
    ) -> None:
        self._codec = codec
        self._admit = admit
        self._schemas = schemas
        self._memory_sequence = memory_sequence
        self._signatures = Signatures(codec, admit)

    async def batch(
        self, records: RecordColumns, expected: int, letters: list[Letter], max_data_bytes: int
    ) -> RequestBatch:
        """All that was fetched of a partition, where ``expected`` was to come first; adds letters as ``row`` does.

        Raises like ``row``.
        """
        prefix = self._prefix()
        if self._memory_sequence is not None:
            self._signatures.begin(self._memory_sequence(), prefix)
        batch = batch_of(records, expected, self._signatures, prefix, max_data_bytes)
        for at in batch.others:
            batch.rows[at] = await self.row(records.record(at), int(batch.gaps[at]), letters)
        return batch

    def _prefix(self) -> bytes:
        """What stands before the values that the columns' reader may read."""
        if self._memory_sequence is None:
            return NO_PREFIX
        try:
            return self._codec.prefix(TOPIC)
        except InvariantError:
            return NO_PREFIX

    async def row(self, record: Any, gap: int, letters: list[Letter]) -> tuple[Row, bool]:
        """The row of a record, and whether it passed; a letter is added for one that nobody can read.

        Raises RetriableError when it is not known whether its schema is registered.
        """
        row = blank_row(record, gap)
        try:
            request = await self._decode(record.value)
        except PoisonRecordError as error:
            row.request_id = fallback_id(record.key, record.partition, record.offset)
            letters.append(Letter.of(record, error))
            end(row, error.code, error.message)
            return row, False
        return row, self._fill(row, request, record)

    async def _decode(self, value: bytes | None) -> InferenceRequest:
        try:
            request: InferenceRequest = self._codec.decode(TOPIC, value)
        except PoisonRecordError as error:
            if error.code != "unknown_schema":
                raise
            request = await decode_or_learn(self._codec, self._schemas, TOPIC, value)
        return request

    def _fill(self, row: Row, request: InferenceRequest, record: Any) -> bool:
        verdict = self._admit(request)
        describe(row, request, record)
        if hasattr(verdict, "code"):
            end(row, verdict.code, verdict.message, verdict.retry_after_ms)
            return False
        row.items, row.blocks, row.blob = verdict.items, verdict.blocks, verdict.blob
        row.deadline_us = row.received_us + verdict.timeout_ms * 1000
        return True

    def digest(self, record: Any) -> bytes | None:
        """Input digest of a record; None for one that would not be admitted."""
        row = blank_row(record, 0)
        try:
            request: InferenceRequest = self._codec.decode(TOPIC, record.value)
        except PoisonRecordError:
            return None
        return input_digest(row) if self._fill(row, request, record) else None
