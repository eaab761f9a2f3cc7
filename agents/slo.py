"""Whether models keep what their serving policies promise: burn rates over two windows, fast and slow. Pure.

The rule is the multiwindow, multi-burn-rate alert of Google's SRE workbook, chapter 5 ("Alerting on SLOs"). The burn
rate is the share of bad rows over the share that the SLO allows: 1 spends the error budget exactly within its period.
An alert is raised when the rate reaches a threshold in a long window, so that it matters, and in a short one, so that
it is still going on. The workbook's budget is that of 30 days; ours is a day's, with the same thresholds and windows a
thirtieth as long: ``fast`` has spent 2 % of it in 2 min (14.4 times too fast), ``slow`` 5 % in 12 min (6 times).

A model has up to two objectives (``schemas.serving.Slo``), each judged over all its versions by what the Validators
tell. One alert ``slo_burn`` per model, objective and speed; the slow one is not raised while the fast one stands. It is
resolved when the rate is below the threshold in both windows, or when another SLO is set. Without a row in the short
window it stays as it is.

A version that became active in place of another is judged by itself, too, for as long as the fast speed's long window:
there the good rows before it would hide its own. Its windows begin with its activation. So is one that is served
otherwise since a policy was set, by the slots that began after that. An alert names the version to
blame: this one, or the only one that burns by itself. A version that was rolled back from takes its rows with it. How
long the first rows of a new one took counts nowhere: they waited while executors loaded it.

State: per model with an SLO, sums per slot and version over the longest window, and which alerts stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agents.slo_case import Judged, SloCase, SloParams
from agents.slo_counts import added, objectives, slot_of
from schemas.memory import MemoryEvent
from schemas.serving import ServingPolicy, Slo
from schemas.telemetry import Telemetry
from streams.agent import NO_EFFECTS, Effects, Event, Publish
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion

ANSWERED: Final = "validator"
SERVING: Final = "serving/"
ACTIVE: Final = "active/"

Slos = Mapping[str, Judged]
"""By model, those that have an SLO."""


def learn(state: Slos, change: MemoryEvent, event: Event, params: SloParams, active: str = "") -> tuple[Slos, Effects]:
    """Follow the serving policies in memory. Another SLO begins anew: late rows were counted by the old one.

    ``active``: the version of the model that was active before the change, empty where that is not known.
    """
    if change.key.startswith(ACTIVE):
        return _activated(state, change), NO_EFFECTS
    if not change.key.startswith(SERVING):
        return state, NO_EFFECTS
    model = change.key.removeprefix(SERVING)
    try:
        slo = None if change.body is None else from_json(ServingPolicy, change.body, newer=True).slo
    except PoisonRecordError:
        return state, NO_EFFECTS  # the Orchestrator writes no such body; whatever it is, it changes no promise
    known = state.get(model)
    if slo == (None if known is None else known.slo):
        return state, NO_EFFECTS
    after = {name: each for name, each in state.items() if name != model}
    if slo is not None:
        anew = Judged(slo, event.coordinate, active=active)
        after[model] = anew if known is None else replace(anew, active=known.active, active_us=known.active_us)
    return after, () if known is None else _ended(model, known, slo, event, params)


def _activated(state: Slos, change: MemoryEvent) -> Slos:
    """Another version serves: it is judged by its rows from now on; what was rolled back from counts no more."""
    known = state.get(change.key.removeprefix(ACTIVE))
    try:
        active = None if change.body is None else from_json(ActiveVersion, change.body, newer=True)
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body
    if known is None or active is None or active.version == known.active:
        return state
    left = known.active if change.kind == "VersionRolledBack" else ""
    kept = {name: slots for name, slots in known.versions.items() if name not in (active.version, left)}
    after = replace(known, versions=kept, active=active.version, active_us=change.time_us, left=left)
    return {**state, active.model: after}


def served_otherwise(state: Slos, model: str, now_us: int) -> Slos:
    """A policy has the rows of a model served otherwise: they are judged by themselves from now on, too."""
    known = state.get(model)
    return state if known is None else {**state, model: replace(known, served_us=now_us)}


def hear(state: Slos, window: Telemetry, event: Event, params: SloParams) -> Slos:
    """Count what a Validator tells of models that have an SLO, and forget what is too old."""
    if window.stage != ANSWERED or not state:
        return state
    end_us = min(event.now_us, window.window_start_us + window.window_us)
    start_us = end_us - end_us % params.slot_us
    oldest_us = params.first_us(event.now_us, max(speed.long_us for speed in params.speeds))
    for part in window.models:
        known = state.get(part.model)
        if known is None or _was_under_way(known, part.version, window, params):
            continue
        slot = slot_of(part, known.slo, start_us)
        if slot is not None and _is_loading(known, part.version, window, params):
            slot = replace(slot, num_timed=0, num_late=0)
        if slot is not None:
            versions = added(known.versions, part.version, slot, oldest_us)
            state = {**state, part.model: replace(known, versions=versions, cause=event.coordinate)}
    return state


def _was_under_way(known: Judged, version: str, window: Telemetry, params: SloParams) -> bool:
    return version == known.left != "" and window.window_start_us < known.active_us + params.settle_us


def _is_loading(known: Judged, version: str, window: Telemetry, params: SloParams) -> bool:
    is_new = version == known.active and known.active_us > 0
    return is_new and window.window_start_us < known.active_us + params.loading_us


def judge(state: Slos, now_us: int, params: SloParams) -> tuple[Slos, Effects]:
    """Raise and resolve what is due; where nothing is, the state stays the same object."""
    effects: list[Publish] = []
    changed: dict[str, Judged] = {}
    for model, judged in sorted(state.items()):
        raised = dict(judged.raised)
        for objective, allowed_ppm in objectives(judged.slo):
            for speed in params.speeds:
                case = SloCase(model, judged, objective, allowed_ppm, speed, now_us, params)
                if case.key in raised and case.is_over():
                    effects.append(case.alert(raised.pop(case.key), f"{model} keeps its SLO again", resolved=True))
                elif case.key not in raised and not case.is_hushed(raised) and (due := case.due()) is not None:
                    raised[case.key] = now_us
                    effects.append(due.alert(now_us, due.complaint(), resolved=False))
        if raised != judged.raised:
            changed[model] = replace(judged, raised=raised)
    return ({**state, **changed} if changed else state), tuple(effects)


def _ended(model: str, judged: Judged, slo: Slo | None, event: Event, params: SloParams) -> Effects:
    """The alerts of an SLO that is no more."""
    what = "has no SLO any more" if slo is None else f"has another SLO: {slo}"
    cases = [
        SloCase(model, judged, objective, allowed_ppm, speed, event.now_us, params)
        for objective, allowed_ppm in objectives(judged.slo)
        for speed in params.speeds
    ]
    return tuple(
        case.alert(judged.raised[case.key], f"{model} {what}", resolved=True)
        for case in cases
        if case.key in judged.raised
    )
