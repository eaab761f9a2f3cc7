"""Orchestrator: the only one who changes memory.

Consumes ``memory.commands``, ``control.plans``, ``control.alerts``, ``control.review-decisions`` and
``control.validations``; emits ``memory.events`` (key = memory key), ``control.review-requests`` and
``control.escalations``. State: every key's version and body, the last sequence, the ids of recent commands.

Rules: a command is handled once, by its id; its agent must be permitted its kind; its ``expected_version`` must be the
key's (0 = new, -1 = any); then the kind's own rule. What is refused is an event too: ``CommandRejected`` under
``rejections/<command id>`` with a code and a sentence. Every event takes the next sequence; ``prev_hash`` is filled in
by the event store, which alone knows stored bytes. Commands that wait for an approval: ``agents.approval``; whose
signature they need: ``agents.authorship``. Versions that give way without a person: ``agents.rollback`` and, of
canaries, ``agents.canary_breach``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from agents import canary, canary_breach, rollback
from agents.approval import gated, outcome
from agents.authorship import attributed
from agents.drift_rules import remove_reference, set_reference
from agents.golden_rules import set_golden_set
from agents.model_rules import propose_plan, register_model, set_cache_policy
from agents.replica_rules import note_replicas
from agents.review_rules import declare_environment, register_signer, revoke_signer, set_environment
from agents.scaling_rules import set_scaling_policy
from agents.serving_rules import (
    activate_version,
    close_breaker,
    half_open_breaker,
    open_breaker,
    set_serving_policy,
)
from agents.shadow_rules import set_shadow
from agents.verdict import ANY_VERSION, Change, Refusal, State, Value, Verdict
from agents.vertical_rules import bound_batches, set_canary
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import PlanProposal
from schemas.review import ContextSignal, ReviewDecision, Validation
from schemas.telemetry import Alert
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_view import ZERO_HASH, Incident, Rejection

REMEMBERED_COMMANDS: Final = 2_000
KEPT_REJECTIONS: Final = 256


def decide(state: State, event: Event, params: Any) -> tuple[State, Effects]:
    """Turn a command, a proposal or an alert into memory events."""
    del params
    match event.record:
        case MemoryCommand() as command:
            return _handle(state, command, event)
        case PlanProposal() as proposal:
            return _handle(state, _of_proposal(proposal), event)
        case Alert() as alert:
            return _hear_alert(state, alert, event)
        case Validation() as validation:
            return canary_breach.answer(state, validation, event, _append)
        case ReviewDecision() as decision:
            return _decide_review(state, decision, event)
    return state, NO_EFFECTS


def _hear_alert(state: State, alert: Alert, event: Event) -> tuple[State, Effects]:
    """Raise or resolve its incident; a new one may call for a roll-back, which is then made in the same decision."""
    command = _of_alert(alert)
    is_new = command.command_id not in state.seen
    state, effects = _handle(state, command, event)
    if is_new:
        state, more = canary_breach.answer(state, alert, event, _append)
        effects += more
    return state, effects


def _of_proposal(proposal: PlanProposal) -> MemoryCommand:
    return MemoryCommand(
        command_id=proposal.proposal_id,
        agent="planner",
        kind="ProposePlan",
        key=f"plan/{proposal.plan.model}",
        expected_version=proposal.expected_version,
        body=to_json(proposal.plan),
        reason=proposal.reason,
        causes=proposal.causes,
        sent_us=proposal.proposed_us,
    )


def _of_alert(alert: Alert) -> MemoryCommand:
    incident = Incident(alert.alert_id, alert.kind, alert.subject, alert.severity, alert.message, alert.evidence)
    return MemoryCommand(
        command_id=f"{alert.alert_id}/{'resolved' if alert.resolved else 'raised'}",
        agent="monitor",
        kind="ResolveIncident" if alert.resolved else "RaiseIncident",
        key=f"incident/{alert.alert_id}",
        expected_version=ANY_VERSION,
        body=to_json(incident),
        reason=alert.message,
        causes=alert.causes,
        sent_us=alert.time_us,
    )


def _handle(state: State, command: MemoryCommand, event: Event) -> tuple[State, Effects]:
    if command.command_id in state.seen:
        return state, NO_EFFECTS
    causes = (*command.causes, event.coordinate)
    verdict, told = gated(state, command, judge(state, command), event.now_us)
    state = replace(state, seen=(*state.seen, command.command_id)[-REMEMBERED_COMMANDS:])
    state, effects = _carry_out(state, attributed(state, command), verdict, causes, event.now_us)
    return state, effects + told


def _decide_review(state: State, decision: ReviewDecision, event: Event) -> tuple[State, Effects]:
    steps, told = outcome(state, decision, event.now_us, judge)
    effects: Effects = ()
    for command, verdict in steps:
        causes = (*command.causes, event.coordinate)
        state, made = _carry_out(state, command, verdict, causes, event.now_us)
        effects += made
    return state, effects + told


def _carry_out(
    state: State, command: MemoryCommand, verdict: Verdict, causes: tuple[RecordCoordinate, ...], now_us: int
) -> tuple[State, Effects]:
    if isinstance(verdict, Refusal):
        return _reject(state, command, verdict, causes, now_us)
    return _append(state, command, verdict, causes, now_us)


def judge(state: State, command: MemoryCommand) -> Verdict:
    """The changes a command makes (none if it is fulfilled already), or why it is refused."""
    if command.kind not in COMMANDS:
        return Refusal("unknown_kind", f"There is no command {command.kind}.")
    agents, rule = COMMANDS[command.kind]
    if command.agent not in agents:
        return Refusal("not_permitted", f"{command.agent} may not send {command.kind}.")
    standing = state.values.get(command.key)
    if standing is not None and standing.body == command.body:
        return ()
    try:
        verdict = rule(state, command)
    except PoisonRecordError as error:
        return Refusal("invalid_body", f"The body of {command.kind} cannot be read: {error.message}.")
    version = 0 if standing is None else standing.version
    if not isinstance(verdict, Refusal) and command.expected_version not in (ANY_VERSION, version):
        return Refusal("version_mismatch", f"{command.key} has version {version}, not {command.expected_version}.")
    return verdict


def _raise_incident(state: State, command: MemoryCommand) -> Verdict:
    del state
    incident = from_json(Incident, command.body)
    return (Change("IncidentRaised", f"incident/{incident.incident_id}", to_json(incident)),)


def _resolve_incident(state: State, command: MemoryCommand) -> Verdict:
    if not command.key.startswith("incident/"):
        return Refusal("invalid_body", f"Incidents stand under incident/<id>, not under {command.key}.")
    if command.key not in state.values:
        return ()
    return (Change("IncidentResolved", command.key, None),)


def _note_context(state: State, command: MemoryCommand) -> Verdict:
    del state
    signal = from_json(ContextSignal, command.body)
    return (Change("ContextNoted", f"context/{signal.signal_id}", to_json(signal)),)


COMMANDS: Final[Mapping[str, tuple[frozenset[str], Callable[[State, MemoryCommand], Verdict]]]] = {
    "RegisterModel": (frozenset({"cli", "operator"}), register_model),
    "SetCachePolicy": (frozenset({"cli", "operator"}), set_cache_policy),
    "SetServingPolicy": (frozenset({"cli", "operator"}), set_serving_policy),
    "SetScalingPolicy": (frozenset({"cli", "operator"}), set_scaling_policy),
    "ActivateVersion": (frozenset({"cli", "operator"}), activate_version),
    "SetCanary": (frozenset({"cli", "operator", "scaler"}), set_canary),
    "SetGoldenSet": (frozenset({"cli", "operator"}), set_golden_set),
    "SetShadow": (frozenset({"cli", "operator"}), set_shadow),
    "OpenBreaker": (frozenset({"monitor"}), open_breaker),
    "HalfOpenBreaker": (frozenset({"monitor"}), half_open_breaker),
    "CloseBreaker": (frozenset({"monitor"}), close_breaker),
    "ProposePlan": (frozenset({"planner"}), propose_plan),
    "MarkVersionGood": (frozenset({"monitor"}), rollback.mark_version_good),
    "RaiseIncident": (frozenset({"monitor"}), _raise_incident),
    "ResolveIncident": (frozenset({"monitor", "cli", "operator"}), _resolve_incident),
    "NoteContext": (frozenset({"researcher"}), _note_context),
    "RegisterSigner": (frozenset({"cli", "operator", "orchestrator"}), register_signer),
    "RevokeSigner": (frozenset({"cli", "operator"}), revoke_signer),
    "SetEnvironment": (frozenset({"cli", "operator"}), set_environment),
    "DeclareEnvironment": (frozenset({"provision"}), declare_environment),
    "SetReference": (frozenset({"cli", "operator"}), set_reference),
    "RemoveReference": (frozenset({"cli", "operator"}), remove_reference),
    "NoteReplicas": (frozenset({"supervisor"}), note_replicas),
    "BoundBatches": (frozenset({"scaler"}), bound_batches),
}


def _reject(
    state: State, command: MemoryCommand, refusal: Refusal, causes: tuple[RecordCoordinate, ...], now_us: int
) -> tuple[State, Effects]:
    """The refusal as an event; the oldest kept one is removed, so that the keys stay bounded."""
    key = f"rejections/{command.command_id}"
    body = to_json(Rejection(command.command_id, refusal.code, refusal.message))
    changes: tuple[Change, ...] = (Change("CommandRejected", key, body),)
    kept = (*(each for each in state.rejections if each != key), key)
    if len(kept) > KEPT_REJECTIONS:
        changes = (*changes, Change("RejectionForgotten", kept[0], None))
    state = replace(state, rejections=kept[-KEPT_REJECTIONS:])
    return _append(state, replace(command, reason=refusal.message), changes, causes, now_us)


def _append(
    state: State,
    command: MemoryCommand,
    changes: tuple[Change, ...],
    causes: tuple[RecordCoordinate, ...],
    now_us: int,
) -> tuple[State, Effects]:
    changes = canary.with_ends(state, changes)
    values, effects = dict(state.values), []
    for number, change in enumerate(changes, start=state.sequence + 1):
        version = values[change.key].version + 1 if change.key in values else 1
        if change.body is None:
            values.pop(change.key, None)
        else:
            values[change.key] = Value(version, change.body)
        event = MemoryEvent(
            sequence=number,
            prev_hash=ZERO_HASH,
            command_id=command.command_id,
            agent=command.agent,
            kind=change.kind,
            key=change.key,
            version=version,
            body=change.body,
            reason=command.reason,
            causes=causes,
            time_us=now_us,
        )
        effects.append(Publish("memory.events", change.key.encode(), event, partition=0))
    return replace(state, sequence=state.sequence + len(changes), values=values), tuple(effects)


ORCHESTRATOR: Final = AgentSpec(
    name="orchestrator",
    consumes=("memory.commands", "control.plans", "control.alerts", "control.review-decisions", "control.validations"),
    emits=("memory.events", "control.review-requests", "control.escalations"),
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
)
