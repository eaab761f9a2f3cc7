"""Scaler: says how many executors there should be, and why. On this floor it holds.

Consumes ``control.heartbeats`` and ``control.load``; emits ``control.scale-actions`` (key = pool). State: when each
executor was heard last, the newest load per model, the last action.

Rule: the decision is ``hold`` with the replicas that are heard, on every change and at least every ``repeat_us``.
Before any executor was heard nothing is published; when none is heard any more, the target stays what it was: no data
never means zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.scaling import ScaleAction
from schemas.telemetry import Heartbeat, RouterLoad
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick

POOL: Final = "executors"
FORGET_US: Final = 600_000_000


@dataclass(frozen=True, slots=True)
class Params:
    """``silent_us``: an executor unheard for this long does not count; ``repeat_us``: the longest pause."""

    silent_us: int = 5_000_000
    repeat_us: int = 60_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """Newest load of a model: rows per second and rows held without a plan, as sent at ``sent_us``."""

    rows_per_s: float
    num_held: int
    sent_us: int


@dataclass(frozen=True, slots=True)
class State:
    """``heard_us`` by executor instance; ``replicas`` as published last (-1 = never) at ``published_us``."""

    heard_us: Mapping[str, int] = field(default_factory=dict)
    load: Mapping[str, Load] = field(default_factory=dict)
    replicas: int = -1
    target: int = 0
    published_us: int = 0


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Note who is heard and what they carry; act at ticks."""
    match event.record:
        case Heartbeat(role="executor") as heartbeat:
            # A heartbeat read late says only that the process lived when it was sent.
            heard = max(state.heard_us.get(str(heartbeat.instance), 0), min(heartbeat.sent_us, event.now_us))
            return replace(state, heard_us={**state.heard_us, str(heartbeat.instance): heard}), NO_EFFECTS
        case RouterLoad() as load:
            newest = Load(load.rows_per_s, load.num_held, load.sent_us)
            return replace(state, load={**state.load, load.model: newest}), NO_EFFECTS
        case Tick():
            return _act(state, event.now_us, params)
    return state, NO_EFFECTS


def live_replicas(state: State, now_us: int, params: Params) -> int:
    """How many executors were heard within ``silent_us``."""
    return sum(now_us - heard < params.silent_us for heard in state.heard_us.values())


def _act(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    live = live_replicas(state, now_us, params)
    if live == state.replicas and now_us - state.published_us < params.repeat_us:
        return state, NO_EFFECTS
    if live == 0 and state.replicas == -1:
        return state, NO_EFFECTS
    target = live or state.target
    action = ScaleAction(f"{POOL}/{now_us}", POOL, "hold", live, target, _reason(state, live, now_us, params), now_us)
    heard = {instance: at for instance, at in state.heard_us.items() if now_us - at < FORGET_US}
    state = replace(state, heard_us=heard, replicas=live, target=target, published_us=now_us)
    return state, (Publish("control.scale-actions", POOL.encode(), action),)


def _reason(state: State, live: int, now_us: int, params: Params) -> str:
    if live == 0:
        return "No executor is heard; without data the number of replicas stays."
    recent = [load for load in state.load.values() if now_us - load.sent_us < params.silent_us]
    # Rounded before it is said: a sum of floats may differ in its last digit between machines.
    carried = f"{round(sum(load.rows_per_s for load in recent))} rows/s" if recent else "no load report"
    return f"{live} executors are heard, {carried}; this version holds and does not scale."


SCALER: Final = AgentSpec(
    name="scaler",
    consumes=("control.heartbeats", "control.load"),
    emits=("control.scale-actions",),
    tick_ms=1_000,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
    params=Params(),
)
