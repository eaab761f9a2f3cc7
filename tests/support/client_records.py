"""Results as a client of ours meets them: records of the log, built in a line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Status, Timing
from streams.codec import Codec, SchemaIds
from streams.ledger import SOURCE, SOURCE_HEADER

CODEC = Codec(SchemaIds.local())
TOPIC_ID = bytes(16)


def result(
    request_id: str = "r-1",
    status: Status = "OK",
    error: ResultError | None = None,
    outputs: tuple[Tensor, ...] = (),
    place: tuple[int, int] = (0, 0),
) -> InferenceResult:
    """A result of a request at ``place`` (partition, offset)."""
    return InferenceResult(
        request_id=request_id,
        tenant="default",
        received_us=1,
        source=Source(TOPIC_ID, *place),
        status=status,
        error=error,
        model="digits",
        model_version="v1.0.0",
        provenance=Provenance("", 0, "", "", 0, 0, "", "", cached=False),
        timing=Timing(0, 0, 0, 0),
        outputs=outputs,
    )


def record(
    place: tuple[int, int], key: bytes | None = b"r-1", value: bytes = b"value", topic_id: bytes = TOPIC_ID
) -> Any:
    """A record of the results topic, as the consumer gives it."""
    return SimpleNamespace(headers=((SOURCE_HEADER, SOURCE.pack(topic_id, *place)),), key=key, value=value, offset=0)


def result_record(answer: InferenceResult) -> Any:
    """The record that a result stands in."""
    place = (answer.source.partition, answer.source.offset)
    return record(place, answer.request_id.encode(), CODEC.encode("inference.results", answer))
