"""Scaler: says how many executors there should be, and why.

Consumes ``control.heartbeats``, ``control.load``, ``control.executor-load``, ``control.scale-confirmations``; watches
``memory.events`` (plans, the pool's policy, its ready replicas); emits ``control.scale-actions`` (key = pool). State: a
picture of the load (``agents.load_picture``), the policy, the replicas, the action that stands, how long a need lasts.

Rules: without a policy in memory (``scaling/executors``) it holds, and loads are not even journaled. With one, the need
(``agents.replica_need``) becomes an action once it lasts; one action stands at a time, until its supervisor confirms it
or ``confirm_us`` are over. After one that failed it waits ``retry_us`` more. Where the least is 0, a pool without a row
for ``idle_s`` is put to sleep, and woken by the first. No data is never zero: while no Router or no executor is heard,
or the Scaler itself did not listen for a while (a restart, a broker that was away), it holds. A ``hold`` asks for
nothing; it is published when its reason changes and at least every ``repeat_us``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents import load_picture
from agents.forecast_rate import Holt, forecast, observed
from agents.load_picture import Demand, Picture, PictureParams
from agents.replica_need import REST, SECOND_US, Need, Pressure, need_of, pressed, step_of
from schemas.load import ExecutorLoad
from schemas.memory import MemoryEvent
from schemas.plan import Plan
from schemas.scaling import MOST_REPLICAS, Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from schemas.telemetry import Heartbeat, RouterLoad
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.lane_class import POOL
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead

LEAST_HOLD_US: Final = 5_000_000
"""Between two holds whose reasons differ."""
UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Params:
    """``pause_us``: own silence after which it listens anew, for ``picture.silent_us``; ``repeat_us``: longest pause.

    After an own silence of ``outage_us`` it listens for ``settle_us``: what was held up meanwhile comes all at once.
    ``confirm_us``: how long an action stands without an answer; ``retry_us``: rest after one that failed.
    ``most_replicas``: how many there can be, whatever a policy says: as many as there are fast lanes. ``policy`` takes
    the place of the one in memory: for ``isos backtest``, which so shows what another one would have done.
    """

    picture: PictureParams = field(default_factory=PictureParams)
    pause_us: int = 3_000_000
    outage_us: int = 10_000_000
    settle_us: int = 15_000_000
    repeat_us: int = 60_000_000
    confirm_us: int = 60_000_000
    retry_us: int = 30_000_000
    most_replicas: int = MOST_REPLICAS
    policy: ScalingPolicy | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An action that its supervisor has not confirmed yet."""

    action_id: str
    target: int
    since_us: int


@dataclass(frozen=True, slots=True)
class State:
    """``replicas`` as the supervisor said last (-1: never). ``ended_us``: when the last action ended.

    ``said``: what the last hold was about, at ``published_us``. ``work``: the work in executors, while a policy
    foresees. ``listening_us``: since when it has listened without a pause, ``last_us``: when it did so last;
    ``blind_until_us``: till then it only listens.
    """

    head: MemoryHead = field(default_factory=MemoryHead)
    picture: Picture = field(default_factory=Picture)
    policy: ScalingPolicy | None = None
    replicas: int = UNKNOWN
    standing: Standing | None = None
    pressure: Pressure = REST
    work: Holt | None = None
    ended_us: int = 0
    rest_until_us: int = 0
    said: str = ""
    published_us: int = 0
    listening_us: int = 0
    last_us: int = 0
    blind_until_us: int = 0


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Note what is heard; act at ticks."""
    state = _listen(state, event.now_us, params, is_tick=isinstance(event.record, Tick))
    match event.record:
        case Heartbeat() as heartbeat:
            return replace(state, picture=load_picture.hear(state.picture, heartbeat, event.now_us)), NO_EFFECTS
        case RouterLoad() as load:
            return replace(state, picture=load_picture.route(state.picture, load, event.now_us)), NO_EFFECTS
        case ExecutorLoad() as load:
            return replace(state, picture=load_picture.queue(state.picture, load, event.now_us)), NO_EFFECTS
        case ScaleConfirmation() as confirmation:
            return _confirm(state, confirmation, event.now_us, params), NO_EFFECTS
        case MemoryEvent() as change:
            if void_reason(state.head, change) is not None:
                return state, NO_EFFECTS
            state = replace(state, head=MemoryHead(change.sequence, event.answers))
            return _learn(state, change, event.now_us, params), NO_EFFECTS
        case Tick():
            state = replace(state, picture=load_picture.forget(state.picture, event.now_us, params.picture))
            return _act(state, event.now_us, params)
    return state, NO_EFFECTS


def _listen(state: State, now_us: int, params: Params, *, is_tick: bool) -> State:
    """Notice a pause of our own. Idle ticks leave the state as it is until half the pause has gone by."""
    past_us = now_us - state.last_us
    if past_us > params.pause_us:
        is_outage = state.last_us and past_us >= params.outage_us
        blind_until = now_us + (params.settle_us if is_outage else params.picture.silent_us)
        return replace(state, listening_us=now_us, last_us=now_us, blind_until_us=blind_until, pressure=REST)
    if is_tick and past_us < params.pause_us // 2:
        return state
    return replace(state, last_us=now_us)


def _learn(state: State, change: MemoryEvent, now_us: int, params: Params) -> State:
    if change.body is None:
        return state
    try:
        if change.key.startswith("plan/"):
            plan = from_json(Plan, change.body, newer=True)
            plans = {**state.picture.plans, plan.model: load_picture.plan_of(plan)}
            return replace(state, picture=replace(state.picture, plans=plans))
        if change.key == f"scaling/{POOL}":
            policy = from_json(ScalingPolicy, change.body, newer=True)
            if state.policy is None:  # what was said before it was not listened to
                state = replace(state, blind_until_us=max(state.blind_until_us, now_us + params.picture.silent_us))
            return replace(state, policy=policy, said="")
        if change.key == f"replicas/{POOL}":
            return replace(state, replicas=from_json(Replicas, change.body, newer=True).replicas)
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body
    return state


def _confirm(state: State, confirmation: ScaleConfirmation, now_us: int, params: Params) -> State:
    if confirmation.pool != POOL or state.standing is None:
        return state
    if confirmation.action_id != state.standing.action_id:
        return state
    rest = 0 if confirmation.outcome == "done" else now_us + params.retry_us
    replicas = confirmation.replicas
    return replace(state, standing=None, replicas=replicas, ended_us=now_us, rest_until_us=rest, said="")


def _act(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    live = load_picture.live_executors(state.picture, now_us, params.picture)
    wanted = params.policy or state.policy
    if wanted is None:
        return _without_policy(state, live, now_us, params)
    policy = wanted.within(params.most_replicas)
    if state.standing is not None:
        if now_us - state.standing.since_us < params.confirm_us:
            return state, NO_EFFECTS
        state = replace(state, standing=None, ended_us=now_us, rest_until_us=now_us + params.retry_us)
    current = live if state.replicas == UNKNOWN else state.replicas
    blind = _blind(state, live, current, now_us, params)
    if blind:
        return _hold(replace(state, pressure=REST), current, blind, blind, now_us, params)
    demand = load_picture.demand_of(state.picture, now_us, params.picture)
    state, ahead = _foresee(state, demand, policy, now_us)
    if _is_idle(state, demand, policy, now_us):
        if current == 0:
            return _hold(state, 0, "idle", f"{_idle(state, now_us)}; it sleeps", now_us, params)
        if now_us >= state.rest_until_us:
            return _scale(state, current, 0, _idle(state, now_us), now_us)
    if current == 0 and demand.is_zero and policy.min_replicas == 0:
        return _hold(state, 0, "asleep", "no row comes or waits; it sleeps", now_us, params)
    need = need_of(demand, policy, current, ahead)
    before = state.pressure
    after = pressed(before, need, current, now_us, complete=not demand.gaps)
    state = replace(state, pressure=after)
    target = step_of(before, after, need, policy, current, now_us, state.ended_us)
    if target != current and now_us >= state.rest_until_us:
        return _scale(state, current, target, _sentence(need, demand, target), now_us)
    about = f"{need.up}/{need.down}/{need.short}/{bool(demand.gaps)}"
    return _hold(state, current, about, _sentence(need, demand, current), now_us, params)


def _blind(state: State, live: int, current: int, now_us: int, params: Params) -> str:
    """Why nothing can be judged now, or an empty string."""
    if now_us < state.blind_until_us:
        return "it listens again only now; without data the number of replicas stays"
    if not load_picture.live_routers(state.picture, now_us, params.picture):
        return "no Router is heard; without data the number of replicas stays"
    if not live and current:
        return "no executor is heard; without data the number of replicas stays"
    return ""


def _foresee(state: State, demand: Demand, policy: ScalingPolicy, now_us: int) -> tuple[State, float]:
    """The work to come, where the policy says how far ahead; what is not complete is not learnt from."""
    if not policy.forecast_s:
        return (state if state.work is None else replace(state, work=None)), 0.0
    work = state.work if demand.gaps else observed(state.work, demand.work, now_us)
    ahead = 0.0 if work is None else round(forecast(work, policy.forecast_s), 6)
    return replace(state, work=work), ahead


def _is_idle(state: State, demand: Demand, policy: ScalingPolicy, now_us: int) -> bool:
    since = max(state.picture.busy_us, state.listening_us)
    is_quiet = demand.is_zero and not demand.gaps
    return policy.min_replicas == 0 and is_quiet and now_us - since >= policy.idle_s * SECOND_US


def _idle(state: State, now_us: int) -> str:
    since = max(state.picture.busy_us, state.listening_us)
    return f"no row came for {(now_us - since) // SECOND_US} s"


def _sentence(need: Need, demand: Demand, target: int) -> str:
    stay = f"; {target} stay for now" if need.up != target else ""
    return f"{need.why}{stay}{f'; {demand.gaps[0]}' if demand.gaps else ''}"


def _scale(state: State, current: int, target: int, why: str, now_us: int) -> tuple[State, Effects]:
    action_id = f"{POOL}/{now_us}"
    decision = "scale_up" if target > current else "scale_down"
    action = ScaleAction(action_id, POOL, decision, current, target, _ended(why), now_us)
    standing = Standing(action_id, target, now_us)
    state = replace(state, standing=standing, pressure=REST, said=f"acted {target}", published_us=now_us)
    return state, (Publish("control.scale-actions", POOL.encode(), action),)


def _hold(state: State, current: int, about: str, why: str, now_us: int, params: Params) -> tuple[State, Effects]:
    said, past_us = f"{current}: {about}", now_us - state.published_us
    if past_us < (params.repeat_us if said == state.said else LEAST_HOLD_US):
        return state, NO_EFFECTS
    action = ScaleAction(f"{POOL}/{now_us}", POOL, "hold", current, current, _ended(why), now_us)
    state = replace(state, said=said, published_us=now_us)
    return state, (Publish("control.scale-actions", POOL.encode(), action),)


def _without_policy(state: State, live: int, now_us: int, params: Params) -> tuple[State, Effects]:
    """Hold with those that are heard; before one was, nothing is said."""
    if not live and not state.published_us:
        return state, NO_EFFECTS
    if not live:
        return _hold(state, max(0, state.replicas), "none", "no executor is heard", now_us, params)
    why = f"{live} executors are heard; no policy says how to scale (`isos scaling set`)"
    return _hold(state, live, "no policy", why, now_us, params)


def _ended(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."


def scaler(params: Params) -> AgentSpec:
    """The Scaler with these parameters."""

    def ignores(state: State, record: Any) -> bool:
        """Whether a record would change nothing: heartbeats of other roles, and most reports of what waits."""
        is_load = isinstance(record, RouterLoad | ExecutorLoad)
        return (is_load and state.policy is None) or load_picture.tells_nothing(state.picture, record, params.picture)

    return AgentSpec(
        name="scaler",
        consumes=("control.heartbeats", "control.load", "control.executor-load", "control.scale-confirmations"),
        watches=("memory.events",),
        emits=("control.scale-actions",),
        tick_ms=1_000,
        initial=lambda params: State(),
        decide=decide,
        journaled=True,
        ignores=ignores,
        params=params,
        forgotten=("heard_us", "load", "target"),
    )


SCALER: Final = scaler(Params())
