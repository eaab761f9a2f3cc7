"""From request records to rows: decode, admit, describe. The admission rule is a pure function from ``infra``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from schemas.request import BlobRef, InferenceRequest
from streams.codec import Codec
from streams.columns import Row
from streams.edge.request_row import blank_row, describe, end, input_digest
from streams.errors import PoisonRecordError
from streams.ledger_log import fallback_id
from streams.letters.letter import Letter
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


class RequestReader:
    """Makes rows by one codec and one rule; ``schemas`` learns of schemas that the codec does not know yet."""

    def __init__(self, codec: Codec, admit: Admit, schemas: SchemaWatch | None = None) -> None:
        self._codec = codec
        self._admit = admit
        self._schemas = schemas

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
