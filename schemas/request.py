"""The user's half of the contract: what a client writes to ``isos.inference.requests.v1``."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.quick import quick


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor by the Open Inference Protocol: row-major, little-endian bytes; the first axis is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


@quick
@dataclass(frozen=True, slots=True)
class BlobRef:
    """Claim check: SHA-256 digest (hex) and size of a blob that stands in for ``Tensor.data``."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One request; ``timeout_ms`` 0 means the policy's default, ``version`` None lets the plan decide."""

    request_id: str
    model: str
    inputs: tuple[Tensor, ...]
    tenant: str = "default"
    version: str | None = None
    priority: int = 5
    timeout_ms: int = 0
    routing_key: str | None = None
    blob: BlobRef | None = field(default=None)
