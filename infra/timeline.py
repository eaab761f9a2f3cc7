"""What happened, from the log alone: the records of the control plane as lines in the order of their times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.log_reader import LogReader, TypedRecord
from schemas.memory import MemoryEvent
from schemas.review import ContextSignal, Escalation, ReviewDecision, ReviewRequest, Validation
from schemas.scaling import ScaleAction, ScaleConfirmation
from schemas.telemetry import Alert
from streams.connection import Connection
from streams.provision import topic_partitions

MEMORY: Final[str] = "memory.events"
TOPICS: Final[tuple[str, ...]] = (
    MEMORY,
    "control.alerts",
    "control.scale-actions",
    "control.scale-confirmations",
    "control.validations",
    "control.context",
    "control.review-requests",
    "control.review-decisions",
    "control.escalations",
)
"""Read in this order; records of one time stand in it."""

QUIET_KINDS: Final = frozenset({"RejectionForgotten", "DecisionNoted", "DecisionForgotten", "ReplicasNoted"})
"""Housekeeping of memory, and what another record says as well; left out unless everything is asked for."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: when (us since the epoch), who said it, what, of what, why.

    ``place`` is the record's offset in ``topic``, or the sequence of an event of memory.

    ``is_quiet``: nothing changed by it; shown only where everything is asked for.
    """

    time_us: int
    who: str
    what: str
    subject: str
    reason: str
    topic: str
    place: int
    is_quiet: bool = False


Told = tuple[int, str, str, str, str]
"""Time, who, what, subject and reason of a record."""


def _memory(event: MemoryEvent) -> Told:
    return event.time_us, event.agent, event.kind, event.key, event.reason


def _alert(alert: Alert) -> Told:
    what = f"alert resolved: {alert.kind}" if alert.resolved else f"alert: {alert.kind} ({alert.severity})"
    return alert.time_us, "monitor", what, alert.subject, alert.message


def _action(action: ScaleAction) -> Told:
    what = f"{action.decision} {action.current_replicas} -> {action.target_replicas}"
    return action.time_us, "scaler", what, action.pool, action.reason


def _confirmation(done: ScaleConfirmation) -> Told:
    return done.time_us, "supervisor", f"{done.replicas} replicas, {done.outcome}", done.pool, f"of {done.action_id}"


def _validation(check: Validation) -> Told:
    outcome = check.outcome or ("passed" if check.passed else "failed")  # the first release did not say
    what = f"check {check.check} {outcome.replace('_', ' ')}"
    return check.time_us, "validator", what, f"{check.model} {check.version}", check.message


def _context(signal: ContextSignal) -> Told:
    return signal.time_us, "researcher", f"context: {signal.kind}", signal.subject, signal.expression


def _request(request: ReviewRequest) -> Told:
    return request.requested_us, request.author, "asks for a review", request.subject, request.review_id


def _decision(decision: ReviewDecision) -> Told:
    return decision.decided_us, decision.decided_by, f"review {decision.decision}", decision.review_id, decision.reason


def _escalation(escalation: Escalation) -> Told:
    return escalation.time_us, escalation.agent, "escalation", escalation.subject, escalation.reason


TELL: Final[Mapping[type, Callable[[Any], Told]]] = {
    MemoryEvent: _memory,
    Alert: _alert,
    ScaleAction: _action,
    ScaleConfirmation: _confirmation,
    Validation: _validation,
    ContextSignal: _context,
    ReviewRequest: _request,
    ReviewDecision: _decision,
    Escalation: _escalation,
}


def lines_of(records: Mapping[str, Iterable[TypedRecord]]) -> list[Line]:
    """Lines of the records by topic, in the order of their times and, at one time, of topic and offset.

    An agent that starts anew sends its last effects once more; what stands twice on a topic is one line.
    """
    ranked: list[tuple[int, int, int, Line]] = []
    for rank, topic in enumerate(TOPICS):
        told: set[Told] = set()
        for each in records.get(topic, ()):
            what_it_says = TELL[type(each.record)](each.record)
            if what_it_says in told:
                continue
            told.add(what_it_says)
            line = Line(*what_it_says, topic, each.offset, _is_quiet(each.record))
            ranked.append((line.time_us, rank, each.offset, line))
    return [line for *_, line in sorted(ranked, key=lambda each: each[:3])]


def _is_quiet(record: Any) -> bool:
    if isinstance(record, ScaleAction):
        return record.current_replicas == record.target_replicas
    return isinstance(record, MemoryEvent) and record.kind in QUIET_KINDS


def about(line: Line, name: str) -> bool:
    """Whether a line is of a model, process or pool: its subject is ``name`` or has it as a part."""
    return name in line.subject.replace("/", " ").split() or name in line.reason.split()


def row(line: Line) -> dict[str, Any]:
    """A line as columns of JSON; ``record`` says where it stands."""
    return {
        "time_us": line.time_us,
        "who": line.who,
        "what": line.what,
        "subject": line.subject,
        "reason": line.reason,
        "record": f"{line.topic} {'sequence' if line.topic == MEMORY else 'offset'} {line.place}",
    }


async def read_timeline(connection: Connection) -> list[Line]:
    """All lines that the log still holds; memory's are those of its accepted chain, others' are left out.

    Raises RetriableError when the broker is away.
    """
    reader = await LogReader.connect(connection)
    there = await topic_partitions(connection, list(TOPICS))
    topics = [topic for topic in TOPICS if topic in there and topic != MEMORY]
    read = await asyncio.gather(*(reader.read(topic) for topic in topics))
    records: dict[str, list[TypedRecord]] = dict(zip(topics, read, strict=True))
    if MEMORY in there:
        records[MEMORY] = [TypedRecord(each.event.sequence, 0, each.event) for each in await reader.memory_events()]
    return lines_of(records)
