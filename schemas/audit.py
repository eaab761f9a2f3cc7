"""The audit log: what was done, by whom and with which outcome, as it is handed in and as it stands in the chain."""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "ml-serving"
TEAM = "ml-engineering"


@dataclass(frozen=True, slots=True)
class AuditMetric:
    """A figure of an operation; its name ends in the unit (``_ms``, ``_per_s``)."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One side of an operation: ``phase`` is before or after, and ``operation_id`` joins the two.

    ``outcome``: pending (before), done, refused, failed or unknown. ``command_id``: the command to memory that the
    operation sent or that caused it. ``num_dropped``: records that this writer had to drop before this one.
    """

    operation_id: str
    phase: str
    timestamp_us: int
    user: str
    change_ticket: str
    environment: str
    operation: str
    model_name: str = ""
    model_version: str = ""
    previous_version: str = ""
    deployment_strategy: str = ""
    resources: tuple[str, ...] = ()
    command: str = ""
    outcome: str = "pending"
    resources_affected: tuple[str, ...] = ()
    rollback_available: bool = False
    duration_seconds: float = 0.0
    performance_metrics: tuple[AuditMetric, ...] = ()
    error_detail: str = ""
    service: str = SERVICE
    team: str = TEAM
    source: str = ""
    command_id: str = ""
    num_dropped: int = 0


@dataclass(frozen=True, slots=True)
class AuditHead:
    """A signed head: the chain up to ``sequence`` and memory up to ``memory_sequence``, each by the last value's hash.

    ``signature``: Ed25519 of ``signer``'s key, over the canonical JSON of the other fields, 128 hexadecimal digits.
    """

    signer: str
    key_id: str
    time_us: int
    sequence: int
    hash: bytes
    memory_sequence: int
    memory_hash: bytes
    signature: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One record of ``audit.log``: a ``record`` or a ``head``.

    ``sequence`` starts at 1 and is dense; ``prev_hash`` is the SHA-256 of the previous entry's record value as stored
    (32 zero bytes for the first). ``origin`` is intake, memory, spool or log, and ``origin_offset`` the offset there
    (-1: none). ``intake_offset`` and ``memory_offset`` are the offsets behind what is recorded so far: where the writer
    goes on.
    """

    sequence: int
    prev_hash: bytes
    prev_time_us: int
    time_us: int
    origin: str
    origin_offset: int
    intake_offset: int
    memory_offset: int
    record: AuditRecord | None = None
    head: AuditHead | None = None
