"""Incidents as people read them: the life of each from memory's events, and what was decided about it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.review import Escalation
from streams.canonical import from_json
from streams.memory_view import Incident

SPACE: Final = "incident/"


@dataclass(frozen=True, slots=True)
class IncidentLife:
    """An incident with the events that raised and resolved it (None: it is open), and the decisions that belong to it.

    A decision belongs to an incident when the same command made both, or one that bears the incident's id.
    """

    incident: Incident
    raised: MemoryEvent
    resolved: MemoryEvent | None
    decisions: tuple[MemoryEvent, ...]


def lives(events: Sequence[MemoryEvent]) -> list[IncidentLife]:
    """Every incident of memory's accepted events, oldest first; one that was raised again after its end is another."""
    spans: list[tuple[MemoryEvent, MemoryEvent | None]] = []
    open_at: dict[str, int] = {}
    for event in events:
        if not event.key.startswith(SPACE):
            continue
        at = open_at.get(event.key)
        if event.body is None and at is not None:
            spans[at] = (spans[at][0], event)
            del open_at[event.key]
        elif event.body is not None and at is None:
            open_at[event.key] = len(spans)
            spans.append((event, None))
    return [
        IncidentLife(
            from_json(Incident, raised.body or "", newer=True), raised, resolved, _decisions(events, raised, resolved)
        )
        for raised, resolved in spans
    ]


def _decisions(
    events: Sequence[MemoryEvent], raised: MemoryEvent, resolved: MemoryEvent | None
) -> tuple[MemoryEvent, ...]:
    commands = {raised.command_id} | ({resolved.command_id} if resolved is not None else set())
    below = f"{raised.key.removeprefix(SPACE)}/"
    return tuple(
        event
        for event in events
        if event.key != raised.key
        and (event.command_id in commands or (event.command_id.startswith(below) and event.sequence > raised.sequence))
    )


def incident_row(life: IncidentLife) -> dict[str, Any]:
    """One line of a list."""
    return {
        "incident_id": life.incident.incident_id,
        "kind": life.incident.kind,
        "subject": life.incident.subject,
        "severity": life.incident.severity,
        "state": "open" if life.resolved is None else "resolved",
        "since": time_of(life.raised.time_us),
        "until": None if life.resolved is None else time_of(life.resolved.time_us),
        "message": life.incident.message,
    }


def incident_document(life: IncidentLife, escalations: Iterable[Escalation]) -> dict[str, Any]:
    """Everything about one incident: evidence, causes, decisions with times and reasons, what people were told."""
    identity = life.incident.incident_id
    told = [each for each in unique(escalations) if each.escalation_id.startswith(identity)]
    return {
        **incident_row(life),
        "evidence": _parsed(life.incident.evidence),
        "causes": [place(cause) for cause in life.raised.causes],
        "resolution": None if life.resolved is None else life.resolved.reason,
        "decisions": [
            {
                "sequence": event.sequence,
                "time": time_of(event.time_us),
                "kind": event.kind,
                "key": event.key,
                "agent": event.agent,
                "reason": event.reason,
            }
            for event in life.decisions
        ],
        "escalations": [escalation_row(each) for each in told],
    }


def escalation_row(escalation: Escalation) -> dict[str, Any]:
    """One line of a list."""
    return {
        "escalation_id": escalation.escalation_id,
        "time": time_of(escalation.time_us),
        "agent": escalation.agent,
        "subject": escalation.subject,
        "reason": escalation.reason,
    }


def escalation_document(escalation: Escalation) -> dict[str, Any]:
    """One escalation with the records that led to it."""
    return {**escalation_row(escalation), "causes": [place(cause) for cause in escalation.causes]}


def unique(escalations: Iterable[Escalation]) -> list[Escalation]:
    """Each once: after a restart an agent sends its last effects again."""
    found: dict[str, Escalation] = {}
    for each in escalations:
        found.setdefault(each.escalation_id, each)
    return list(found.values())


def place(cause: RecordCoordinate) -> str:
    """A record's place in the log."""
    return f"{cause.topic}-{cause.partition}@{cause.offset}"


def time_of(time_us: int) -> str:
    """A moment in UTC, to the millisecond: decisions follow each other quickly."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_us // 1000 % 1000:03d}Z"


def _parsed(evidence: str) -> Any:
    try:
        return json.loads(evidence)
    except ValueError:
        return evidence
