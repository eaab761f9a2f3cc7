"""Whether a canary keeps its model's SLO, judged by its own rows. Pure; a part of the Monitor.

A canary has few of a model's rows, so what it does badly hardly shows in all of them. Its rows since it began are held
against the SLO by themselves, over the windows of the fast speed (``agents.slo``): one critical alert ``slo_burn`` per
objective that names it as the version to blame, resolved when neither window burns, or when the trial is over. Rows of
a canary that was taken back take no part in what its model is judged by: neither those it had, nor those that are told
of within ``settle_us``, for they were under way.

State: per model the trial that memory tells of, and which of its alerts stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agents.slo import SERVING, Slos
from agents.slo_case import Judged, SloCase, SloParams
from agents.slo_counts import Objective, objectives
from schemas.canary import Canary
from schemas.memory import MemoryEvent
from streams.agent import NO_EFFECTS, Effects, Publish
from streams.canonical import from_json
from streams.errors import PoisonRecordError

CANARY: Final = "canary/"
SET: Final = "CanarySet"
PROMOTED: Final = "CanaryPromoted"


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary with ``percent`` of its model's rows. ``raised``: when the alert of an objective was that stands.

    ``ended_us``: when it was taken back, 0 while it runs.
    """

    version: str
    percent: int
    raised: Mapping[str, int] = field(default_factory=dict)
    ended_us: int = 0


Canaries = Mapping[str, Trial]
"""By model."""


def learn(
    state: Canaries, before: Slos, slos: Slos, change: MemoryEvent, params: SloParams
) -> tuple[Canaries, Slos, Effects]:
    """Follow memory: a trial begins with no rows, and one that was taken back leaves none.

    ``before``: the SLOs as they were before the change, ``slos``: as they are by it.
    """
    if change.key.startswith(SERVING):
        state, effects = _promised(state, before, slos, change, params)
        return state, slos, effects
    if not change.key.startswith(CANARY):
        return state, slos, NO_EFFECTS
    try:
        canary = from_json(Canary, change.body or "", newer=True)
    except PoisonRecordError:
        return state, slos, NO_EFFECTS  # the Orchestrator writes no such body
    trial = state.get(canary.model)
    is_running = trial is not None and not trial.ended_us and trial.version == canary.version
    if change.kind == SET:
        if trial is not None and is_running:
            return {**state, canary.model: replace(trial, percent=canary.weight_percent)}, slos, NO_EFFECTS
        begun = Trial(canary.version, canary.weight_percent)
        return {**state, canary.model: begun}, _without(slos, canary.model, canary.version), NO_EFFECTS
    if trial is None:
        return state, slos, NO_EFFECTS
    others = {model: each for model, each in state.items() if model != canary.model}
    judged = slos.get(canary.model)
    effects = () if judged is None else _resolved(canary.model, trial, judged, change.time_us, params)
    if change.kind == PROMOTED:
        return others, slos, effects
    left = replace(trial, raised={}, ended_us=change.time_us)
    return {**others, canary.model: left}, _without(slos, canary.model, canary.version), effects


def _promised(
    state: Canaries, before: Slos, slos: Slos, change: MemoryEvent, params: SloParams
) -> tuple[Canaries, Effects]:
    """What stands against a canary by an SLO that is no more is resolved."""
    model = change.key.removeprefix(SERVING)
    trial, was, now = state.get(model), before.get(model), slos.get(model)
    if trial is None or not trial.raised or was is None or (now is not None and now.slo == was.slo):
        return state, NO_EFFECTS
    effects = _resolved(model, trial, was, change.time_us, params)
    return {**state, model: replace(trial, raised={})}, effects


def without_left(state: Canaries, slos: Slos, now_us: int, params: SloParams) -> Slos:
    """The SLOs' counts without rows of canaries that were just taken back."""
    for model, trial in sorted(state.items()):
        if trial.ended_us and now_us < trial.ended_us + params.settle_us:
            slos = _without(slos, model, trial.version)
    return slos


def judge(state: Canaries, slos: Slos, now_us: int, params: SloParams) -> tuple[Canaries, Effects]:
    """Raise and resolve what is due, and forget what is over; where nothing is, the state stays the same object."""
    effects: list[Publish] = []
    after: dict[str, Trial] = {}
    for model, trial in sorted(state.items()):
        judged, raised = slos.get(model), dict(trial.raised)
        if judged is None or trial.ended_us:
            if not trial.ended_us or now_us < trial.ended_us + params.settle_us:
                after[model] = trial
            continue
        for objective, allowed_ppm in objectives(judged.slo):
            case = _case(model, trial, judged, objective, allowed_ppm, now_us, params)
            if objective in raised and case.is_over():
                effects.append(case.alert(raised.pop(objective), f"{_name(model, trial)} keeps the SLO", resolved=True))
            elif objective not in raised and case.due() is not None:
                raised[objective] = now_us
                effects.append(case.alert(now_us, case.complaint(), resolved=False))
        after[model] = trial if raised == trial.raised else replace(trial, raised=raised)
    return (after if after != state else state), tuple(effects)


def _resolved(model: str, trial: Trial, judged: Judged, now_us: int, params: SloParams) -> Effects:
    """The end of a trial's alerts."""
    cases = [
        _case(model, trial, judged, objective, allowed_ppm, now_us, params)
        for objective, allowed_ppm in objectives(judged.slo)
    ]
    message = f"{_name(model, trial)} is none any more"
    found = [(case, trial.raised[case.objective]) for case in cases if case.objective in trial.raised]
    return tuple(case.alert(raised_us, message, resolved=True) for case, raised_us in found)


def _case(
    model: str, trial: Trial, judged: Judged, objective: Objective, allowed_ppm: int, now_us: int, params: SloParams
) -> SloCase:
    speed, since = replace(params.speeds[0], name="canary"), f"as a canary of {trial.percent} percent"
    return SloCase(model, judged, objective, allowed_ppm, speed, now_us, params, trial.version, since)


def _without(slos: Slos, model: str, version: str) -> Slos:
    judged = slos.get(model)
    if judged is None or version not in judged.versions:
        return slos
    kept = {name: slots for name, slots in judged.versions.items() if name != version}
    return {**slos, model: replace(judged, versions=kept)}


def _name(model: str, trial: Trial) -> str:
    return f"The canary {model} {trial.version}"
