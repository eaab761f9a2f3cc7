"""A canary that breaks its promise is taken back without a person: rules of the Orchestrator. Pure.

The same alerts and failed checks that blame an active version (``agents.rollback``) blame a canary, where they name its
version. Then it has no share any more in the very decision that notes the alert's incident, the active version stays,
people are told by an escalation, and an incident is open until a plan gives the canary no rows. It needs no version
that proved itself and no cooldown, for nothing but the trial ends. Where the serving policy leaves roll-backs to
people, they are told, and nothing else happens.
"""

from __future__ import annotations

from agents import rollback
from agents.canary import INCIDENT, is_planned, over, standing
from agents.rollback import AGENT, Append, Case, case_of, escalation
from agents.verdict import ANY_VERSION, Change, State
from schemas.canary import Canary
from schemas.memory import MemoryCommand
from schemas.review import Validation
from schemas.serving import ServingPolicy
from schemas.telemetry import Alert
from streams.agent import Effects, Event
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, Incident


def answer(state: State, record: Alert | Validation, event: Event, append: Append) -> tuple[State, Effects]:
    """Take the canary back where it is to blame; else what ``agents.rollback`` does."""
    case = case_of(record, event.coordinate)
    running = None if case is None else standing(state, case.model)
    if case is None or running is None or case.version != running.version:
        return rollback.answer(state, record, event, append)
    value = state.values.get(f"serving/{case.model}")
    if value is not None and not from_json(ServingPolicy, value.body, newer=True).auto_rollback:
        reason = f"The canary {_name(running)} is not taken back by itself: its serving policy leaves that to people."
        told = f"{case.trigger}/auto_rollback_off", case.model, f"{reason} {case.why}", case.causes, event.now_us
        return state, (escalation(*told),)
    return _take_back(state, case, running, event.now_us, append)


def _take_back(state: State, case: Case, running: Canary, now_us: int, append: Append) -> tuple[State, Effects]:
    active = from_json(ActiveVersion, state.values[f"active/{case.model}"].body, newer=True).version
    sentence = f"The canary {_name(running)} is taken back, and {active} serves on. {case.why}"
    identity = f"{INCIDENT}/{case.model}/{now_us}"
    incident = Incident(identity, INCIDENT, case.model, "critical", sentence, to_json(running))
    end = over(running)
    command = MemoryCommand(
        f"{case.trigger}/{INCIDENT}", AGENT, "TakeCanaryBack", end.key, ANY_VERSION, end.body or "", sentence,
        case.causes, now_us,
    )  # fmt: skip
    changes: tuple[Change, ...] = (end, Change("IncidentRaised", f"incident/{identity}", to_json(incident)))
    if not is_planned(state, running):
        changes = (*changes, Change("IncidentResolved", f"incident/{identity}", None))
    state, effects = append(state, command, changes, case.causes, now_us)
    return state, (*effects, escalation(identity, case.model, sentence, case.causes, now_us))


def _name(running: Canary) -> str:
    return f"{running.model} {running.version}, with {running.weight_percent} percent of the rows,"
