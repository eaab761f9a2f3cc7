"""The other half of the contract: the one result of a request, on ``isos.inference.results.v1``.

Field order puts what is constant for a segment (model .. provenance, timing) side by side, so that its encoding is
spliced and only the row's own bytes are written per result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.request import Tensor

Status = Literal["OK", "ERROR", "REJECTED", "EXPIRED"]


@dataclass(frozen=True, slots=True)
class ResultError:
    """Why a request did not end OK: a code of the closed list, a sentence, when a retry makes sense (ms, 0 = never)."""

    code: str
    message: str
    retry_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Provenance:
    """What produced the outputs."""

    model_digest: str
    memory_sequence: int
    cohort: str
    experiment: str
    batch_id: int
    batch_size: int
    execution_provider: str
    executor: str
    cached: bool


@dataclass(frozen=True, slots=True)
class Timing:
    """Instants in microseconds since the epoch; 0 = not reached. ``received_us`` is the broker's timestamp."""

    admitted_us: int
    routed_us: int
    executed_us: int
    completed_us: int


@dataclass(frozen=True, slots=True)
class Source:
    """Coordinate of the request this result answers; ``topic_id`` is the UUID's 16 bytes."""

    topic_id: bytes
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """Exactly one per request coordinate."""

    request_id: str
    tenant: str
    received_us: int
    source: Source
    status: Status
    error: ResultError | None
    model: str
    model_version: str
    provenance: Provenance
    timing: Timing
    outputs: tuple[Tensor, ...]
