"""Entries of the audit log as people and log stacks read them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.audit import AuditEntry, AuditRecord


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted; empty: all. ``operation`` may be the beginning of a name (``memory.``)."""

    operation: str = ""
    model: str = ""
    user: str = ""
    ticket: str = ""
    outcome: str = ""
    until_us: int = 1 << 62

    def wants(self, record: AuditRecord) -> bool:
        """Whether a record is one of them."""
        return (
            record.operation.startswith(self.operation)
            and self.model in ("", record.model_name)
            and self.user in ("", record.user)
            and self.ticket in ("", record.change_ticket)
            and self.outcome in ("", record.outcome)
            and record.timestamp_us <= self.until_us
        )


def document(entry: AuditEntry, record: AuditRecord) -> dict[str, Any]:
    """A record of the log under the names that log stacks are given; ``error_detail`` is null where nothing failed."""
    return {
        "timestamp": time_of(record.timestamp_us),
        "user": record.user,
        "change_ticket": record.change_ticket or None,
        "environment": record.environment,
        "operation": record.operation,
        "phase": record.phase,
        "model_name": record.model_name or None,
        "model_version": record.model_version or None,
        "previous_version": record.previous_version or None,
        "deployment_strategy": record.deployment_strategy or None,
        "resources": list(record.resources),
        "command": record.command,
        "outcome": record.outcome,
        "resources_affected": list(record.resources_affected),
        "rollback_available": record.rollback_available,
        "duration_seconds": record.duration_seconds,
        "performance_metrics": {each.name: each.value for each in record.performance_metrics},
        "error_detail": record.error_detail or None,
        "service": record.service,
        "team": record.team,
        "operation_id": record.operation_id,
        "command_id": record.command_id or None,
        "source": record.source,
        "num_dropped": record.num_dropped,
        "origin": entry.origin,
        "sequence": entry.sequence,
        "prev_hash": entry.prev_hash.hex(),
    }


def row(entry: AuditEntry, record: AuditRecord) -> dict[str, Any]:
    """A record in one line of a table."""
    model = f"{record.model_name} {record.model_version}".strip()
    return {
        "sequence": entry.sequence,
        "time": time_of(record.timestamp_us)[:23] + "Z",
        "user": record.user,
        "operation": record.operation,
        "phase": record.phase,
        "model": model or None,
        "outcome": record.outcome,
        "seconds": round(record.duration_seconds, 3) if record.phase == "after" else None,
        "ticket": record.change_ticket or None,
        "detail": _short(record.error_detail or ", ".join(record.resources_affected)) or None,
    }


def time_of(time_us: int) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
