"""Every topic: its name, partitions, cleanup, retention, the record on it, who may write and who may read it.

Short names (``inference.requests``) are used in the code; ``full_name`` adds ``isos.`` and ``.v1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "isos."
SUFFIX: Final = ".v1"
SCHEMAS_TOPIC: Final = "_schemas"
MIB: Final = 1 << 20
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
FOREVER: Final = -1
MAX_RECORD_BYTES: Final = 12 * MIB
MAX_LETTER_BYTES: Final = MAX_RECORD_BYTES + 128 * 1024
"""A dead letter: a whole request, with what its topic allows for headers, and the reason beside it."""

JOURNALED_AGENTS: Final = ("orchestrator", "planner", "monitor", "scaler", "reviewer", "researcher", "validations")
"""Control agents in the order of their journal partitions; append only, never reorder."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``partitions``: a number, or the setting that gives it (``requests`` or ``lanes``).

    ``record`` is the name of the record type (None = raw bytes as they came). ``fenced``: written through the fenced
    writer only. ``log_append_time``: the broker's clock stamps records.
    """

    name: str
    record: str | None
    partitions: int | Literal["requests", "lanes"]
    cleanup: Literal["delete", "compact"]
    retention_ms: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    fenced: bool = False
    log_append_time: bool = False
    retention_bytes: int = -1
    segment_bytes: int = 64 * MIB
    max_record_bytes: int = MAX_RECORD_BYTES

    @property
    def full_name(self) -> str:
        """Name on the broker."""
        return full_name(self.name)


def full_name(short: str) -> str:
    """Name on the broker of a short topic name."""
    return short if short == SCHEMAS_TOPIC else f"{PREFIX}{short}{SUFFIX}"


def _data(
    name: str, partitions: Literal["requests", "lanes"], writers: tuple[str, ...], readers: tuple[str, ...]
) -> Topic:
    return Topic(
        name, "InferenceFrame", partitions, "delete", HOUR_MS * 2, writers, readers, retention_bytes=1024 * MIB
    )


def _control(name: str, record: str, writers: tuple[str, ...], readers: tuple[str, ...], retention_ms: int) -> Topic:
    return Topic(name, record, 1, "delete", retention_ms, writers, readers)


_LONG: Final = 180 * DAY_MS

_TABLE: Final = (
    Topic(
        "inference.requests",
        "InferenceRequest",
        "requests",
        "delete",
        DAY_MS * 7,
        ("clients",),
        ("edge", "validator"),
        log_append_time=True,
        segment_bytes=256 * MIB,
    ),
    _data("inference.admitted", "requests", ("edge",), ("router",)),
    _data("inference.routed", "lanes", ("router",), ("executor",)),
    _data("inference.retries", "requests", ("executor",), ("router",)),
    _data("inference.executed", "requests", ("executor", "edge", "router"), ("validator",)),
    Topic(
        "inference.results",
        "InferenceResult",
        "requests",
        "delete",
        DAY_MS * 8,
        ("validator",),
        ("clients",),
        fenced=True,
        log_append_time=True,
        segment_bytes=256 * MIB,
    ),
    Topic(
        "inference.ledger-checkpoints",
        "LedgerCheckpoint",
        "requests",
        "compact",
        FOREVER,
        ("validator",),
        ("validator",),
        fenced=True,
    ),
    Topic(
        "inference.decisions",
        "RoutingDecision",
        1,
        "delete",
        _LONG,
        ("router",),
        ("operators",),
        retention_bytes=1024 * MIB,
    ),
    Topic(
        "inference.shadow",
        "ShadowComparison",
        1,
        "delete",
        DAY_MS * 7,
        ("validator",),
        ("operators",),
        retention_bytes=256 * MIB,
    ),
    Topic(
        "inference.dlq",
        None,
        1,
        "delete",
        _LONG,
        ("edge", "router", "executor", "validator", "operators"),
        ("operators",),
        max_record_bytes=MAX_LETTER_BYTES,
    ),
    _control("control.plans", "PlanProposal", ("planner",), ("orchestrator", "reviewer"), _LONG),
    _control("control.load", "RouterLoad", ("router", "edge"), ("scaler", "planner"), DAY_MS),
    _control("control.executor-load", "ExecutorLoad", ("executor",), ("edge", "scaler"), HOUR_MS),
    _control("control.statistics", "VersionStatistics", ("executor", "router"), ("monitor", "researcher"), DAY_MS),
    _control("control.scale-actions", "ScaleAction", ("scaler",), ("supervisor",), _LONG),
    _control("control.scale-confirmations", "ScaleConfirmation", ("supervisor",), ("scaler", "monitor"), _LONG),
    _control("control.heartbeats", "Heartbeat", ("every process",), ("router", "planner", "scaler", "monitor"), DAY_MS),
    _control("control.telemetry", "Telemetry", ("every stage",), ("planner", "monitor"), DAY_MS),
    _control("control.alerts", "Alert", ("monitor",), ("validations", "reviewer", "planner", "orchestrator"), _LONG),
    _control("control.validations", "Validation", ("validations",), ("planner", "reviewer", "orchestrator"), _LONG),
    _control(
        "control.validation-requests", "CheckRequest", ("validations", "operators"), ("control", "validations"), _LONG
    ),
    _control("control.observations", "Observation", ("control",), ("validations",), _LONG),
    _control("control.context", "ContextSignal", ("researcher",), ("planner", "reviewer", "researcher"), _LONG),
    _control("control.review-requests", "ReviewRequest", ("planner", "orchestrator", "monitor"), ("reviewer",), _LONG),
    _control("control.review-votes", "ReviewVote", ("people",), ("reviewer",), _LONG),
    _control("control.review-decisions", "ReviewDecision", ("reviewer",), ("planner", "orchestrator"), _LONG),
    _control(
        "control.escalations", "Escalation", ("monitor", "validator", "reviewer", "orchestrator"), ("reviewer",), _LONG
    ),
    Topic(
        "control.journal",
        "JournalEntry",
        len(JOURNALED_AGENTS),
        "delete",
        _LONG,
        JOURNALED_AGENTS,
        JOURNALED_AGENTS,
        fenced=True,
    ),
    _control("memory.commands", "MemoryCommand", ("every agent",), ("orchestrator",), DAY_MS * 30),
    Topic("memory.events", "MemoryEvent", 1, "delete", FOREVER, ("orchestrator",), ("everybody",), fenced=True),
    Topic("memory.state", "MemoryEntry", 1, "compact", FOREVER, ("orchestrator",), ("everybody",), fenced=True),
    _control("audit.intake", "AuditRecord", ("every process", "commands"), ("orchestrator",), DAY_MS * 30),
    Topic("audit.log", "AuditEntry", 1, "delete", _LONG, ("orchestrator",), ("auditors",), fenced=True),
)

TOPICS: Final[dict[str, Topic]] = {topic.name: topic for topic in _TABLE}
