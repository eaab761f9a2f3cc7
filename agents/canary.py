"""Rules of the Orchestrator for a canary: a version that serves a share of a model's rows beside the active one.

``SetCanary`` starts one, raises or lowers its share, and with 0 percent takes it back. A model has one at a time: a
registered version that takes the inputs of the active one and whose breaker is closed. Whenever another version becomes
active, by whatever way, the canary is over in the same decision. A plan may give it exactly the share that memory says,
so a plan that was proposed before it was taken back is refused. Where activations wait for an approval, so does each
larger share; a smaller one never waits. Who takes it back without a person: ``agents.canary_breach``.
"""

from __future__ import annotations

from typing import Final

from agents.verdict import Change, Refusal, State, Verdict, keys_below
from schemas.canary import MOST_PERCENT, Canary
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.plan import Plan, VersionWeight
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion, Incident

SET: Final = "SetCanary"
GATED_AS: Final = "ActivateVersion"
TAKEN_BACK: Final = "CanaryTakenBack"
INCIDENT: Final = "canary"


def set_canary(state: State, command: MemoryCommand) -> Verdict:
    """Give a version a share of its model's rows, another one, or none any more."""
    wanted = from_json(Canary, command.body)
    name, key = f"{wanted.model} {wanted.version}", f"canary/{wanted.model}"
    if command.key != key:
        return Refusal("invalid_body", f"The canary of {wanted.model} stands under {key}, not under {command.key}.")
    active = state.values.get(f"active/{wanted.model}")
    if active is None:
        return Refusal("unknown_model", f"No model {wanted.model} is registered.")
    if f"model/{wanted.model}/{wanted.version}" not in state.values:
        return Refusal("unknown_version", f"{wanted.model} has no version {wanted.version}.")
    if not 0 <= wanted.weight_percent <= MOST_PERCENT:
        return Refusal("invalid_weight", f"A canary serves up to {MOST_PERCENT} percent, not {wanted.weight_percent}.")
    running = standing(state, wanted.model)
    if running is not None and running.version != wanted.version:
        share = f"{running.version} is the canary of {wanted.model} with {running.weight_percent} percent"
        return Refusal("canary_running", f"{share}; it is taken back or becomes active first.")
    if not wanted.weight_percent:
        return (Change(TAKEN_BACK, key, command.body),) if running is not None else ()
    before = from_json(ActiveVersion, active.body, newer=True).version
    if before == wanted.version:
        return Refusal("already_active", f"{name} is active: it serves what no canary does.")
    if f"breaker/{wanted.model}/{wanted.version}" in state.values:
        return Refusal("breaker_open", f"The breaker of {name} is not closed, so it may not have a larger share.")
    if _facts(state, wanted.model, wanted.version).inputs != _facts(state, wanted.model, before).inputs:
        return Refusal("invalid_canary", f"{name} does not take the inputs of {before}, which is active.")
    return (Change("CanarySet", key, to_json(wanted)),)


def standing(state: State, model: str) -> Canary | None:
    """The canary of a model that has a share, or None."""
    last = _last(state, model)
    return last if last is not None and last.weight_percent else None


def ended(state: State, model: str, active: str) -> tuple[Change, ...]:
    """The end of a model's canary because another version becomes active: itself, then it has all rows."""
    running = standing(state, model)
    if running is None:
        return ()
    kind = "CanaryPromoted" if running.version == active else TAKEN_BACK
    return (over(running, kind),)


def with_ends(state: State, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Changes, behind each that makes another version active the end of the model's canary."""
    found: list[Change] = []
    for change in changes:
        found.append(change)
        if change.body is not None and change.key.startswith("active/"):
            active = from_json(ActiveVersion, change.body, newer=True)
            before = state.values.get(change.key)
            if before is None or from_json(ActiveVersion, before.body, newer=True).version != active.version:
                found += ended(state, active.model, active.version)
    return tuple(found)


def over(running: Canary, kind: str = TAKEN_BACK) -> Change:
    """The end of a canary."""
    return Change(kind, f"canary/{running.model}", to_json(Canary(running.model, running.version, 0)))


def lowers(state: State, command: MemoryCommand) -> bool:
    """Whether a command gives the canary no larger share than it has: then nobody need approve it."""
    try:
        wanted = from_json(Canary, command.body)
    except PoisonRecordError:
        return False
    running = standing(state, wanted.model)
    share = running.weight_percent if running is not None and running.version == wanted.version else 0
    return wanted.weight_percent <= share


def may_serve(state: State, model: str, share: VersionWeight) -> bool:
    """Whether a share of a plan is that of the model's canary."""
    running = standing(state, model)
    return running is not None and (running.version, running.weight_percent) == (share.version, share.weight_percent)


def refused_plan(state: State, plan: Plan, active: str) -> Refusal | None:
    """A plan that splits rows otherwise than memory says: it was proposed before that changed."""
    last = _last(state, plan.model)
    shares = [share for share in plan.versions if share.weight_percent]
    for share in shares:
        is_tried = len(shares) > 1 or (last is not None and share.version == last.version)
        if is_tried and share.version != active and not may_serve(state, plan.model, share):
            name = f"{plan.model} {share.version}"
            return Refusal("not_active", f"{name} is no canary of {share.weight_percent} percent, and not active.")
    return None


def settled(state: State, plan: Plan) -> tuple[Change, ...]:
    """The end of incidents of canaries that were taken back, once a plan gives them no rows, and be it another's."""
    last = _last(state, plan.model)
    if last is None:
        return ()
    found = keys_below(state, f"incident/{INCIDENT}/{plan.model}/")
    served = {share.version for share in plan.versions if share.weight_percent}
    done = [key for key in found if not last.weight_percent or _blamed(state, key, last.version) not in served]
    return tuple(Change("IncidentResolved", key, None) for key in done)


def is_planned(state: State, running: Canary) -> bool:
    """Whether the plan in force gives the canary rows."""
    value = state.values.get(f"plan/{running.model}")
    shares = () if value is None else from_json(Plan, value.body, newer=True).versions
    return any(share.version == running.version and share.weight_percent for share in shares)


def _last(state: State, model: str) -> Canary | None:
    value = state.values.get(f"canary/{model}")
    return None if value is None else from_json(Canary, value.body, newer=True)


def _blamed(state: State, key: str, otherwise: str) -> str:
    """The version that an incident of a canary is about; ``otherwise`` where its evidence does not say."""
    incident = from_json(Incident, state.values[key].body, newer=True)
    try:
        return from_json(Canary, incident.evidence, newer=True).version
    except PoisonRecordError:
        return otherwise


def _facts(state: State, model: str, version: str) -> ModelVersion:
    return from_json(ModelVersion, state.values[f"model/{model}/{version}"].body, newer=True)
