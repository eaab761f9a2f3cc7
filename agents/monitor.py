"""Monitor: what every process and model does, and an alert when a process falls silent.

Consumes ``control.heartbeats``, ``control.telemetry``, ``control.statistics`` and ``control.scale-confirmations`` (who
was ended on purpose is not silent: ``agents.departure``), watches ``memory.events``; emits
``control.alerts`` (key = subject), ``control.escalations`` and ``memory.commands``. State: each process as heard last,
the newest telemetry windows per stage, when it began to listen, what the breakers of model versions are judged by.

Rules: processes that fall silent, see ``agents.presence``. Silence counts only while the Monitor itself listened: after
a pause of its own (a restart, a broker that was away) the count begins anew. Clocks that go wrong: see
``agents.clock_skew``.
Records of memory that the Orchestrator did not write: see ``agents.forged_memory``. Nobody who writes it:
``agents.silence``.
A stage that met cached values which this stack did not write raises one ``cache_forged`` alert, resolved when none was
met for ``quiet_us``.
Breakers: see ``agents.breaker_machine``; it asks for their moves and raises an alert while one is not closed.
SLOs of models: see ``agents.slo``; an alert while one spends its error budget too fast.
Rows that are not those of their version's reference: see ``agents.drift``.
Canaries by their own rows: see ``agents.canary_watch``.
Versions that proved themselves: see ``agents.known_good``; it asks for them to be noted.

``isos status`` folds the same topics through ``fold_heartbeat`` and ``fold_telemetry`` and shows ``model_rates``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agents import canary_watch, clock_skew, drift, forged_memory, forgery, known_good, presence, silence, slo
from agents.breaker_machine import BreakerParams, Breakers, alert_of, hear, learn, moves
from agents.canary_watch import Canaries
from agents.clock_skew import SkewParams, Skews
from agents.departure import Departed, depart, is_late
from agents.drift import Drifts
from agents.drift_case import DriftParams
from agents.forged_memory import Forged
from agents.forgery import Forgery
from agents.known_good import GoodParams, Goods
from agents.presence import ProcessStatus
from agents.silence import Silence
from agents.slo import Slos
from agents.slo_case import SloParams
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.scaling import ScaleConfirmation
from schemas.statistics import VersionStatistics
from schemas.telemetry import Heartbeat, Telemetry
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick, Unreadable

KEPT_WINDOWS: Final = 5


@dataclass(frozen=True, slots=True)
class Params:
    """Microseconds: silence that alerts, own pause after which listening begins anew, silence that is forgotten.

    ``quiet_us``: without a forged value for so long, the forger counts as gone. ``bound_us``: silence of memory's
    writers after which Routers refuse rows.
    """

    silent_us: int = 5_000_000
    pause_us: int = 2_500_000
    forget_us: int = 600_000_000
    quiet_us: int = 60_000_000
    breaker: BreakerParams = field(default_factory=BreakerParams)
    slo: SloParams = field(default_factory=SloParams)
    drift: DriftParams = field(default_factory=DriftParams)
    good: GoodParams = field(default_factory=GoodParams)
    skew: SkewParams = field(default_factory=SkewParams)
    bound_us: int = 600_000_000


@dataclass(frozen=True, slots=True)
class State:
    """``processes`` by ``role-instance``; ``windows`` by ``stage-instance``, newest last; listening since then.

    ``forgeries`` by ``stage-instance``, while they are alerted.
    """

    processes: Mapping[str, ProcessStatus] = field(default_factory=dict)
    windows: Mapping[str, tuple[Telemetry, ...]] = field(default_factory=dict)
    listening_us: int = 0
    last_us: int = 0
    forgeries: Mapping[str, Forgery] = field(default_factory=dict)
    breakers: Breakers = field(default_factory=Breakers)
    slos: Slos = field(default_factory=dict)
    forged: Forged | None = None
    drifts: Drifts = field(default_factory=Drifts)
    goods: Goods = field(default_factory=dict)
    departed: Departed = field(default_factory=dict)
    skews: Skews = field(default_factory=dict)
    canaries: Canaries = field(default_factory=dict)
    silence: Silence | None = None


@dataclass(frozen=True, slots=True)
class ModelRate:
    """A model version at one stage over its kept windows: rates per second, mean and longest time in microseconds."""

    stage: str
    model: str
    version: str
    rows_per_s: float
    ok_per_s: float
    refused_per_s: float
    mean_us: float
    max_us: int


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Fold what is heard; judge silence at ticks."""
    state = _listen(state, event.now_us, params, is_tick=isinstance(event.record, Tick))
    match event.record:
        case Heartbeat() as heartbeat if is_late(state.departed, presence.process_name(heartbeat), heartbeat):
            return state, NO_EFFECTS
        case Heartbeat() as heartbeat:
            folded = fold_heartbeat(state, heartbeat, event.now_us, event.coordinate)
            name = presence.process_name(heartbeat)
            processes, effects = presence.resolve_heard(folded.processes, name, event.now_us, params.silent_us)
            told = name, heartbeat.sent_us, event.now_us, event.coordinate
            skews = clock_skew.hear(state.skews, *told, params.skew)
            return replace(folded, processes=processes, skews=skews), effects
        case ScaleConfirmation() as confirmation:
            processes, departed, effects = depart(state.processes, state.departed, confirmation, event.now_us)
            return replace(state, processes=processes, departed=departed), effects
        case Telemetry() as window:
            forgeries, effects = forgery.note(state.forgeries, window, event)
            state = replace(fold_telemetry(state, window), forgeries=forgeries)
            heard = hear(state.breakers, window, event.now_us, params.breaker)
            slos = slo.hear(state.slos, window, event, params.slo)
            slos = canary_watch.without_left(state.canaries, slos, event.now_us, params.slo)
            goods = known_good.hear(state.goods, window, event, params.good)
            state, asked = _move(replace(state, breakers=heard, slos=slos, goods=goods), event.now_us, params)
            return state, (*effects, *asked)
        case VersionStatistics() as told:
            drifts, effects = drift.hear(state.drifts, told, event, params.drift)
            return replace(state, drifts=drifts), effects
        case MemoryEvent() | Unreadable() as change:
            forged, effects = forged_memory.note(state.forged, state.breakers.head, event)
            if isinstance(change, Unreadable) or forged is not state.forged:
                return replace(state, forged=forged), effects
            return _learn(state, change, event, params)
        case Tick():
            return _judge(state, event.now_us, params)
    return state, NO_EFFECTS


def _judge(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """What is due by the clock; where nothing is, the state stays the same object."""
    times = (state.listening_us, now_us, params.silent_us, params.forget_us, params.bound_us)
    processes, silent = presence.judge(state.processes, *times)
    quiet, untold = silence.judge(state.silence, processes, state.listening_us, now_us, params.bound_us)
    if quiet is not state.silence:
        state = replace(state, silence=quiet)
    forgeries, gone = forgery.gone(state.forgeries, now_us, params.quiet_us)
    forged, ended = forged_memory.gone(state.forged, now_us, params.quiet_us)
    drifts, settled = drift.judge(state.drifts, now_us, params.drift)
    slos, burning = slo.judge(state.slos, now_us, params.slo)
    canaries, tried = canary_watch.judge(state.canaries, slos, now_us, params.slo)
    goods, proved = known_good.judge(state.goods, _troubled(state, slos), now_us, params.good)
    skews, askew = clock_skew.judge(state.skews, now_us, params.skew)
    before = (state.processes, state.forgeries, state.forged, state.slos, state.goods, state.drifts, state.skews)
    parts = (processes, forgeries, forged, slos, goods, drifts, skews)
    if canaries is not state.canaries or any(new is not old for new, old in zip(parts, before, strict=True)):
        state = replace(state, processes=processes, forgeries=forgeries, forged=forged, skews=skews)
        state = replace(state, slos=slos, goods=goods, drifts=drifts, canaries=canaries)
    state, asked = _move(state, now_us, params)
    return state, (*silent, *untold, *askew, *gone, *ended, *tried, *burning, *settled, *_commands(proved), *asked)


def _troubled(state: State, slos: Slos) -> frozenset[str]:
    """Models against which, or against whose active version, an alert stands."""
    active = {f"{model}/{known.version}": model for model, known in state.goods.items()}
    broken = [active[name] for name, each in state.breakers.versions.items() if each.breaker and name in active]
    drifting = [active[name] for name, each in state.drifts.versions.items() if each.drift_us and name in active]
    return frozenset((*(model for model, judged in slos.items() if judged.raised), *broken, *drifting))


def _move(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """Ask for the moves of breakers that are due."""
    breakers, commands = moves(state.breakers, now_us, params.breaker)
    if breakers is not state.breakers:
        state = replace(state, breakers=breakers)
    return state, _commands(commands)


def _commands(commands: tuple[MemoryCommand, ...]) -> Effects:
    return tuple(Publish("memory.commands", each.key.encode(), each) for each in commands)


def _learn(state: State, change: MemoryEvent, event: Event, params: Params) -> tuple[State, Effects]:
    """Follow memory; a breaker that is not closed is an alert. What the chain of events refuses changes nothing."""
    breakers = learn(state.breakers, change, event.answers)
    if breakers is state.breakers:
        return state, NO_EFFECTS
    active = known_good.active_version(state.goods, change.key.partition("/")[2])
    slos, ended = slo.learn(state.slos, change, event, params.slo, active)
    canaries, slos, freed = canary_watch.learn(state.canaries, state.slos, slos, change, params.slo)
    goods = known_good.learn(state.goods, change)
    if known_good.is_served_otherwise(state.goods, goods, change):
        slos = slo.served_otherwise(slos, change.key.partition("/")[2], change.time_us)
    drifts, settled = drift.learn(state.drifts, change, event, params.drift)
    alert = alert_of(state.breakers, breakers, change, event.coordinate)
    effects = NO_EFFECTS if alert is None else (Publish("control.alerts", alert.subject.encode(), alert),)
    state = replace(state, breakers=breakers, slos=slos, goods=goods, drifts=drifts, canaries=canaries)
    return state, (*effects, *ended, *freed, *settled)


def fold_heartbeat(state: State, heartbeat: Heartbeat, now_us: int, cause: RecordCoordinate) -> State:
    """Note a sign of life; one that was sent earlier than the last one heard changes nothing."""
    processes = presence.heard(state.processes, heartbeat, now_us, cause)
    return state if processes is state.processes else replace(state, processes=processes)


def fold_telemetry(state: State, window: Telemetry) -> State:
    """Keep the newest windows of a stage, each once."""
    place = f"{window.stage}-{window.instance}"
    kept = state.windows.get(place, ())
    if kept and window.window_start_us <= kept[-1].window_start_us:
        return state
    return replace(state, windows={**state.windows, place: (*kept, window)[-KEPT_WINDOWS:]})


def model_rates(state: State, now_us: int, max_age_us: int = 10_000_000) -> tuple[ModelRate, ...]:
    """Rates by stage, model and version over the kept windows not older than ``max_age_us``, in that order."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    spans: dict[str, dict[str, int]] = {}
    for place, kept in sorted(state.windows.items()):
        for window in kept:
            if now_us - window.window_start_us > max_age_us:
                continue
            span = spans.setdefault(window.stage, {})
            span[place] = span.get(place, 0) + window.window_us
            for part in window.models:
                total = sums.setdefault((window.stage, part.model, part.version), [0] * 5)
                refused = part.num_error + part.num_rejected + part.num_expired
                for at, value in enumerate((part.num_rows, part.num_ok, refused, part.total_us)):
                    total[at] += value
                total[4] = max(total[4], part.max_us)
    return tuple(_rate(key, total, max(spans[key[0]].values())) for key, total in sorted(sums.items()))


def _rate(key: tuple[str, str, str], total: list[int], span_us: int) -> ModelRate:
    rows, ok, refused, total_us, max_us = total
    seconds = max(span_us, 1) / 1e6
    return ModelRate(*key, rows / seconds, ok / seconds, refused / seconds, total_us / rows if rows else 0.0, max_us)


def _listen(state: State, now_us: int, params: Params, *, is_tick: bool) -> State:
    """Notice a pause of our own. Idle ticks leave the state as it is until half the pause has gone by."""
    if now_us - state.last_us > params.pause_us:
        return replace(state, listening_us=now_us, last_us=now_us)
    if is_tick and now_us - state.last_us < params.pause_us // 2:
        return state
    return replace(state, last_us=now_us)


MONITOR: Final = AgentSpec(
    name="monitor",
    consumes=("control.heartbeats", "control.telemetry", "control.statistics", "control.scale-confirmations"),
    watches=("memory.events",),
    unreadable=("memory.events",),
    emits=("control.alerts", "memory.commands", "control.escalations"),
    tick_ms=1_000,
    gather_ms=400,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
    params=Params(),
)
