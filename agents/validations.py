"""Validations, the Validator's control side: which checks are run when, and what comes of them.

Consumes ``control.alerts``, ``control.validation-requests`` (its own come back, operators add theirs) and
``control.observations``; watches ``memory.events``; emits ``control.validation-requests`` and ``control.validations``
(key = model). State: what memory says of models (``agents.check_rules.Facts``), open roll-back incidents, checks that
are due, open, and done.

Rules. It decides, the prober (``infra.prober``) measures; nothing is judged but by memory and figures.

- A roll-back: serving, latency, golden set and integrity of the version that is active then.
- An alert ``drift``: whether later rows drift too, what comes by the schema, and the golden set; ``data_quality``:
  what comes; ``slo_burn``: what comes, golden set and integrity. Of the version to blame, else of the active one.
- Another version is activated or is a canary, and the model has a golden set: golden set and integrity. They are
  rehearsed while that waits for people.
- ``settle_us`` after its cause a check is asked for, so that plans have arrived and the incident is known; the same
  check of a version once in ``quiet_us`` for causes of one kind. What is older than ``stale_us`` causes nothing.
- What did not pass for an open roll-back incident is run again, up to ``MAX_ATTEMPTS`` in all: right after a roll-back
  the bad version's backlog may still stand. A check without what it needs is not.
- Each check ends in one ``Validation``, ``not_run`` where nobody measured it ``late_us`` after its deadline.

Ids: ``<alert, incident or cause>/<check>``, a second attempt's with ``/2`` behind; an operator chooses the first part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents.check_rules import CheckParams, Facts, Judged, not_run
from agents.check_triggers import (
    OF_ALERT,
    REVIEW,
    ROLLBACK,
    STARTED,
    Due,
    due_of_alert,
    due_of_canary,
    due_of_move,
    due_of_review,
)
from agents.check_verdict import judge
from agents.model_facts import fold_facts
from schemas.check import LATENCY, SERVING, CheckRequest, Observation
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.review import Validation
from schemas.telemetry import Alert
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.memory_fold import void_reason
from streams.memory_view import Incident, MemoryHead

NAME: Final = "validations"
INCIDENT: Final = "incident/rollback/"
MAX_OPEN: Final = 64
REMEMBERED: Final = 1_000
MAX_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Params:
    """Microseconds; see the module's text. ``deadline_us``: what a check may take from its request on."""

    settle_us: int = 1_000_000
    deadline_us: int = 30_000_000
    late_us: int = 5_000_000
    again_us: int = 15_000_000
    quiet_us: int = 60_000_000
    stale_us: int = 120_000_000
    check: CheckParams = field(default_factory=CheckParams)


@dataclass(frozen=True, slots=True)
class State:
    """``incidents``: the open roll-back incident per model; ``due`` by the first part of ids, ``open`` by id.

    ``done``: ids of checks that ended, oldest first; ``asked``: when ``<kind>/<check>/<model>/<version>`` was last.
    """

    head: MemoryHead = field(default_factory=MemoryHead)
    models: Mapping[str, Facts] = field(default_factory=dict)
    incidents: Mapping[str, str] = field(default_factory=dict)
    due: Mapping[str, Due] = field(default_factory=dict)
    open: Mapping[str, CheckRequest] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    asked: Mapping[str, int] = field(default_factory=dict)


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Follow memory, note what is to be checked, ask for it, judge what was measured."""
    match event.record:
        case MemoryEvent() as change:
            if void_reason(state.head, change) is not None:
                return state, NO_EFFECTS
            state = replace(state, head=MemoryHead(change.sequence, event.answers))
            return _learn(state, change, event, params), NO_EFFECTS
        case Alert() as alert:
            return _alerted(state, alert, event, params), NO_EFFECTS
        case CheckRequest() as request:
            return _take(state, request, event)
        case Observation() as observation:
            return _close(state, observation, event, params)
        case Tick():
            state, asked = _ask(state, event.now_us, params)
            state, missed = _expire(state, event.now_us, params)
            return state, (*asked, *missed)
    return state, NO_EFFECTS


def ignores(state: State, record: Any) -> bool:
    """Whether a record is a request that is known, such as our own, or an alert that no check answers."""
    if isinstance(record, CheckRequest):
        return record.request_id in state.open or record.request_id in state.done
    return isinstance(record, Alert) and record.kind not in OF_ALERT


def _learn(state: State, change: MemoryEvent, event: Event, params: Params) -> State:
    state = replace(state, models=fold_facts(state.models, change))
    try:
        if change.key.startswith(INCIDENT):
            return _incident(state, change)
        if change.key.startswith(f"{REVIEW}/") and change.body is None:
            return _without(state, change.key)
        if event.now_us - change.time_us > params.stale_us:
            return state
        if change.kind in ("VersionActivated", "VersionRolledBack", STARTED):
            return _moved(state, change, event)
        if change.kind == "CanarySet" and (found := due_of_canary(state.models, change, event)) is not None:
            return replace(state, due={**state.due, found[0]: found[1]})
        if change.kind == "ReviewOpened" and (found := due_of_review(state.models, change, event)) is not None:
            return replace(state, due={**state.due, found[0]: found[1]})
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body; whatever it is, it is nothing to check by
    return state


def _incident(state: State, change: MemoryEvent) -> State:
    """Follow the open roll-back incidents."""
    if change.body is None:
        ended = change.key.removeprefix("incident/")
        return replace(state, incidents={name: each for name, each in state.incidents.items() if each != ended})
    incident = from_json(Incident, change.body, newer=True)
    return replace(state, incidents={**state.incidents, incident.subject: incident.incident_id})


def _moved(state: State, change: MemoryEvent, event: Event) -> State:
    """Another version is active; of two moves in one breath the last one stands, and it alone is looked at."""
    found = due_of_move(state.models, change, event)
    if found is None:
        return state
    cause, due = found
    others = {key: each for key, each in state.due.items() if (each.model, each.version) != (due.model, "")}
    return replace(state, due={**others, cause: due})


def _without(state: State, cause: str) -> State:
    """What is over before it was looked at."""
    return replace(state, due={key: each for key, each in state.due.items() if key != cause})


def _alerted(state: State, alert: Alert, event: Event, params: Params) -> State:
    if alert.kind not in OF_ALERT or (alert.model or alert.subject) not in state.models:
        return state
    if alert.resolved:
        return _without(state, alert.alert_id)
    if alert.alert_id in state.due or event.now_us - alert.time_us > params.stale_us:
        return state
    return replace(state, due={**state.due, alert.alert_id: due_of_alert(alert, event)})


def _take(state: State, request: CheckRequest, event: Event) -> tuple[State, Effects]:
    """Wait for the outcome of a check that somebody else asked for."""
    if ignores(state, request) or request.deadline_us <= event.now_us:
        return state, NO_EFFECTS
    if len(state.open) >= MAX_OPEN:
        return _done(state, request, not_run("Too many checks are open."), event.now_us, event.coordinate)
    return replace(state, open={**state.open, request.request_id: request}), NO_EFFECTS


def _close(state: State, observation: Observation, event: Event, params: Params) -> tuple[State, Effects]:
    """Judge what was measured, once per check."""
    request = state.open.get(observation.request.request_id, observation.request)
    if request.request_id in state.done:
        return state, NO_EFFECTS
    judged = judge(observation, state.models.get(request.model), params.check)
    state, effects = _done(state, request, judged, event.now_us, event.coordinate)
    return _again(state, request, judged, event.now_us, params), effects


def _again(state: State, request: CheckRequest, judged: Judged, now_us: int, params: Params) -> State:
    """Have what did not pass for an open roll-back incident run once more, later."""
    is_open = request.alert_id != "" and state.incidents.get(request.model) == request.alert_id
    may_pass = judged.outcome == "failed" or (judged.outcome == "not_run" and request.check in (SERVING, LATENCY))
    attempt = _attempt(request) + 1
    if not (is_open and may_pass and request.requester == NAME) or attempt > MAX_ATTEMPTS:
        return state
    later_us, reason = now_us + params.again_us, f"{request.reason}, attempt {attempt}"
    what = request.model, request.version, ROLLBACK, (request.check,), reason
    due = Due(*what, later_us, request.causes, request.alert_id, attempt)
    return replace(state, due={**state.due, f"{request.request_id}/again": due})


def _attempt(request: CheckRequest) -> int:
    last = request.request_id.rpartition("/")[2]
    return int(last) if last.isdecimal() else 1


def _ask(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """Requests for what is due, each check of a version once in a while."""
    effects: list[Publish] = []
    for cause, due in sorted(state.due.items()):
        if now_us - due.since_us < params.settle_us:
            continue
        state = _without(state, cause)
        facts = state.models[due.model]
        version = due.version if due.version in facts.digests else facts.active
        answers = state.incidents.get(due.model, "") if due.kind == ROLLBACK else due.alert_id
        if due.attempt > 1 and (not answers or version != facts.active):
            continue  # the incident is over, or about another version by now
        for check in due.checks:
            mark = f"{due.kind}/{check}/{due.model}/{version}"
            is_quiet = now_us - state.asked.get(mark, -params.quiet_us) < params.quiet_us
            if (is_quiet and due.kind not in (ROLLBACK, REVIEW)) or len(state.open) >= MAX_OPEN:
                continue
            times = now_us, now_us + params.deadline_us
            who = due.model, version, due.reason, answers, NAME
            name = check if due.attempt == 1 else f"{check}/{due.attempt}"
            request = CheckRequest(f"{answers or cause}/{name}", check, *who, *times, due.causes)
            if request.request_id in state.open or request.request_id in state.done:
                continue
            effects.append(Publish("control.validation-requests", due.model.encode(), request))
            state = replace(
                state, open={**state.open, request.request_id: request}, asked={**state.asked, mark: now_us}
            )
    asked = {mark: since for mark, since in state.asked.items() if now_us - since < params.quiet_us}
    return (state if asked == state.asked else replace(state, asked=asked)), tuple(effects)


def _expire(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """What nobody measured in time ends as not run."""
    effects: tuple[Any, ...] = ()
    for _, request in sorted(state.open.items()):
        if now_us >= request.deadline_us + params.late_us:
            state, ended = _done(state, request, not_run("Nobody measured it in time."), now_us, None)
            effects = (*effects, *ended)
    return state, effects


def _done(
    state: State, request: CheckRequest, judged: Judged, now_us: int, cause: RecordCoordinate | None
) -> tuple[State, Effects]:
    validation = Validation(
        validation_id=request.request_id,
        check=request.check,
        model=request.model,
        version=request.version,
        passed=judged.outcome == "passed",
        message=judged.message,
        time_us=now_us,
        outcome=judged.outcome,
        num_samples=judged.num_samples,
        evidence=judged.evidence,
        alert_id=request.alert_id,
        causes=request.causes if cause is None else (*request.causes, cause),
    )
    still = {key: each for key, each in state.open.items() if key != request.request_id}
    state = replace(state, open=still, done=(*state.done, request.request_id)[-REMEMBERED:])
    return state, (Publish("control.validations", request.model.encode(), validation),)


VALIDATIONS: Final = AgentSpec(
    name=NAME,
    consumes=("control.alerts", "control.validation-requests", "control.observations"),
    watches=("memory.events",),
    emits=("control.validation-requests", "control.validations"),
    tick_ms=1_000,
    gather_ms=200,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
    ignores=ignores,
    params=Params(),
)
