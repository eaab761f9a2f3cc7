"""How an answer came about, as one document: what the log says of a request, put together. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schemas.result import InferenceResult, Timing
from streams.errors import CODES
from streams.ledger import REAPED_HEADER
from streams.letters.letter import Letter
from streams.memory_point import LoggedEvent, MemoryPoint
from streams.memory_view import MemoryView, active_version, breakers, canary, incidents, model_version, plan
from streams.review_view import review_decisions
from streams.topics import full_name

STAGES: Final = ("edge", "router", "executor", "validator")
"""What ends at each instant of a result's timing, in their order."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read. ``offset``, ``written_ms`` and ``headers`` are the result record's.

    ``memory``: as it stood at the result's sequence, None where it has none; ``letters``: of the request.
    """

    result: InferenceResult
    offset: int
    written_ms: int
    headers: Mapping[str, bytes | None]
    memory: MemoryPoint | None
    letters: Sequence[Letter]


def explained(evidence: Evidence) -> dict[str, Any]:
    """Everything there is to say, as JSON-like data."""
    result, made = evidence.result, evidence.result.provenance
    source = result.source
    known = evidence.memory if evidence.memory is not None and evidence.memory.is_reached else None
    return {
        "request": {
            "request_id": result.request_id,
            "tenant": result.tenant,
            "topic": full_name("inference.requests"),
            "topic_id": source.topic_id.hex(),
            "partition": source.partition,
            "offset": source.offset,
            "received": when(result.received_us),
        },
        "result": {
            "topic": full_name("inference.results"),
            "partition": source.partition,
            "offset": evidence.offset,
            "written": when(evidence.written_ms * 1000),
            "reaped": REAPED_HEADER in evidence.headers,
        },
        "status": result.status,
        "error": _error(result),
        "timing_ms": timing_ms(result.received_us, result.timing),
        "served_by": {
            "model": result.model,
            "version": result.model_version or None,
            "model_digest": made.model_digest or None,
            "cohort": made.cohort or None,
            "executor": made.executor or None,
            "execution_provider": made.execution_provider or None,
            "batch_id": made.batch_id if made.executor else None,
            "batch_size": made.batch_size if made.executor else None,
            "cached": made.cached,
        },
        "memory": {"sequence": made.memory_sequence, **({} if known is None else _memory(result, known))},
        "dead_letters": [_letter(each) for each in evidence.letters],
        "notes": notes(evidence),
    }


def timing_ms(received_us: int, timing: Timing) -> dict[str, float | None]:
    """Milliseconds that each stage took, from the end of the last one that was reached; None: not reached."""
    ends = (timing.admitted_us, timing.routed_us, timing.executed_us, timing.completed_us)
    found: dict[str, float | None] = {}
    before = received_us
    for stage, end in zip(STAGES, ends, strict=True):
        found[stage] = (end - before) / 1000 if end else None
        before = end or before
    found["total"] = (timing.completed_us - received_us) / 1000 if timing.completed_us else None
    return found


def notes(evidence: Evidence) -> list[str]:
    """What is out of the ordinary, in sentences."""
    result, made, memory = evidence.result, evidence.result.provenance, evidence.memory
    found: list[str] = []
    if REAPED_HEADER in evidence.headers:
        found.append("The reaper ended this request: nothing had answered it in time.")
    if made.cached:
        found.append("The outputs are an earlier request's; memory sequence, executor and batch are those of that one.")
    if made.memory_sequence == 0 or memory is None:
        found.append("No memory sequence is in the result: the request was ended before it was routed.")
        return found
    if not memory.is_reached:
        found.append(f"memory.events ends before sequence {made.memory_sequence}; `isos memory verify` says more.")
        return found
    facts = model_version(memory.view, result.model, result.model_version)
    if made.model_digest and facts is not None and facts.digest != made.model_digest:
        found.append(f"The digest is not the registered one, which is {facts.digest}.")
    effective = plan(memory.view, result.model)
    if effective is not None and result.model_version:
        planned = [share.version for share in effective.versions if share.weight_percent]
        if result.model_version not in planned:
            role = "a fallback of the plan" if result.model_version in effective.fallbacks else "asked for by name"
            found.append(f"The plan is {', '.join(planned)}; {result.model_version} served as {role}.")
    return found


def _memory(result: InferenceResult, point: MemoryPoint) -> dict[str, Any]:
    view, model, version = point.view, result.model, result.model_version
    open_ones = breakers(view, model).values()
    return {
        "time": when(view.time_us),
        "last_hash": view.last_hash.hex(),
        "plan": _key(point, f"plan/{model}"),
        "active_version": {"version": active_version(view, model), **_key(point, f"active/{model}", body=False)},
        "canary": _key(point, f"canary/{model}") if canary(view, model) is not None else None,
        "registered": _key(point, f"model/{model}/{version}") if version else None,
        "approvals": _approvals(point, view, (f"active/{model}", f"canary/{model}", f"serving/{model}")),
        "breakers": [
            {"version": each.version, "state": each.state, **_key(point, f"breaker/{model}/{each.version}", body=False)}
            for each in open_ones
        ],
        "incidents": [
            {
                "incident_id": each.incident_id,
                "kind": each.kind,
                "subject": each.subject,
                "severity": each.severity,
                "message": each.message,
                "event": _event(point.made_by(f"incident/{each.incident_id}")),
            }
            for each in incidents(view)
        ],
    }


def _approvals(point: MemoryPoint, view: MemoryView, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The decisions by which keys came to hold what they hold; memory keeps the newest of them."""
    made = {logged.event.command_id for key in keys if (logged := point.made_by(key)) is not None}
    found = []
    for review_id, decision in review_decisions(view).items():
        noted = point.made_by(f"decision/{review_id}")
        if noted is not None and noted.event.command_id in made:
            said = {"review_id": review_id, "decision": decision.decision, "decided_by": decision.decided_by}
            found.append({**said, "reason": decision.reason, "event": _event(noted)})
    return found


def _key(point: MemoryPoint, key: str, *, body: bool = True) -> dict[str, Any]:
    """A key's value, where it is wanted, and the event that made it."""
    logged = point.made_by(key)
    value = None if logged is None or logged.event.body is None else json.loads(logged.event.body)
    return {**({"value": value} if body else {}), "event": _event(logged)}


def _event(logged: LoggedEvent | None) -> dict[str, Any] | None:
    if logged is None:
        return None
    event = logged.event
    return {
        "kind": event.kind,
        "sequence": event.sequence,
        "offset": logged.offset,
        "time": when(event.time_us),
        "agent": event.agent,
        "reason": event.reason,
        "command_id": event.command_id,
        "causes": [f"{cause.topic}-{cause.partition}@{cause.offset}" for cause in event.causes],
    }


def _error(result: InferenceResult) -> dict[str, Any] | None:
    if result.error is None:
        return None
    code = CODES.get(result.error.code)
    return {
        "code": result.error.code,
        "message": result.error.message,
        "retry_after_ms": result.error.retry_after_ms,
        "meaning": None if code is None else code.meaning,
        "what_to_do": None if code is None else code.remedy,
    }


def _letter(letter: Letter) -> dict[str, Any]:
    where = letter.where
    place = f"inference.requests/{where.partition}/{where.offset}"
    return {"id": place, "code": letter.code, "stage": letter.stage, "message": letter.message}


def when(time_us: int) -> str | None:
    """A time in microseconds as ISO 8601; None for 0, which stands for none."""
    return None if time_us == 0 else datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lines(document: Any, path: str = "") -> list[dict[str, str]]:
    """A document as lines of a table: a dotted path and a value each; what is empty is left out."""
    if isinstance(document, Mapping):
        pairs = [(f"{path}.{name}" if path else str(name), value) for name, value in document.items()]
    elif isinstance(document, list | tuple) and any(isinstance(each, Mapping) for each in document):
        pairs = [(f"{path}[{number}]", value) for number, value in enumerate(document)]
    else:
        if document in (None, [], ()):
            return []
        text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        return [{"field": path, "value": text}]
    return [line for name, value in pairs for line in lines(value, name)]
