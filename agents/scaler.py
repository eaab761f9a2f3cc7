"""Scaler: says how many executors there should be in each pool, and why.

Consumes ``control.heartbeats``, ``control.load``, ``control.executor-load``, ``control.scale-confirmations``; watches
``memory.events`` (plans, pools' policies, their ready replicas); emits ``control.scale-actions`` (key = pool) and, for
vertical steps (``agents.vertical``), ``memory.commands``. State: a picture of the load (``agents.load_picture``), of
each pool (``agents.pool_state``) the policy, the replicas, the action that stands, how long a need lasts. Pools are the
fast executors and, where there are slow lanes, theirs.

Rules (``agents.pool_look``): a pool without a policy in memory (``scaling/<pool>``) is held, and loads are not even
journaled. With one, the need (``agents.replica_need``) becomes an action once it lasts; one action stands at a time,
until its supervisor confirms it or ``confirm_us`` are over. After one that failed it waits ``retry_us`` more. Where the
least is 0, a pool without a row for ``idle_s`` is put to sleep, and woken by the first. No data is never zero: while no
Router or no executor is heard, or the Scaler itself did not listen for a while (a restart, a broker that was away), it
holds. A ``hold`` asks for nothing; it is published when its reason changes and at least every ``repeat_us``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents import load_picture, vertical
from agents.forecast_rate import Holt
from agents.load_picture import Picture
from agents.pool_look import Look, Params, look_at
from agents.pool_state import UNKNOWN, PoolState, Standing, confirmed, pool_in, with_pool
from agents.replica_need import REST, Pressure
from schemas.canary import Canary
from schemas.load import ExecutorLoad
from schemas.memory import MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import Plan
from schemas.scaling import BatchBound, Replicas, ScaleConfirmation, ScalingPolicy
from schemas.telemetry import Heartbeat, RouterLoad
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.lane_class import POOL, SLOW_POOL
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead


@dataclass(frozen=True, slots=True)
class State:
    """``policy`` to ``published_us``: of the fast pool (see ``PoolState``), ``slow``: of the slow one.

    ``listening_us``: since when it has listened without a pause, ``last_us``: when it did so last; ``blind_until_us``:
    till then it only listens. ``activated_by``: the command that
    changed an active version last for which a variant of ours served.
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
    slow: PoolState = field(default_factory=PoolState)
    vertical_us: int = 0
    calm_us: int = 0
    short_us: int = 0
    activated_by: str = ""


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Note what is heard; act at ticks."""
    state = _listen(state, event.now_us, params, is_tick=isinstance(event.record, Tick))
    match event.record:
        case Heartbeat() as heartbeat:
            return replace(state, picture=load_picture.hear(state.picture, heartbeat, event.now_us)), NO_EFFECTS
        case RouterLoad() as load:
            return replace(
                state, picture=load_picture.route(state.picture, load, event.now_us, event.coordinate)
            ), NO_EFFECTS
        case ExecutorLoad() as load:
            return replace(state, picture=load_picture.queue(state.picture, load, event.now_us)), NO_EFFECTS
        case ScaleConfirmation() as confirmation:
            name, now_us = confirmation.pool, event.now_us
            if name not in (POOL, SLOW_POOL):
                return state, NO_EFFECTS
            pool = confirmed(pool_in(state, name), confirmation, now_us, params.retry_us)
            return with_pool(state, name, pool), NO_EFFECTS
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
        slow = replace(state.slow, pressure=REST)
        return replace(state, listening_us=now_us, last_us=now_us, blind_until_us=blind_until, pressure=REST, slow=slow)
    if is_tick and past_us < params.pause_us // 2:
        return state
    return replace(state, last_us=now_us)


def _learn(state: State, change: MemoryEvent, now_us: int, params: Params) -> State:
    picture = vertical.after_answer(state.picture, change)
    state = state if picture is state.picture else replace(state, picture=picture)
    kind, _, model = change.key.partition("/")
    if kind == "active" and model in state.picture.in_use:
        return replace(state, activated_by=change.command_id)
    if change.key.startswith("vertical/"):
        return _bound(state, change)
    if change.body is None:
        return state
    try:
        if change.key.startswith("plan/"):
            plan = from_json(Plan, change.body, newer=True)
            plans = {**state.picture.plans, plan.model: load_picture.plan_of(plan)}
            return replace(state, picture=replace(state.picture, plans=plans))
        if change.key.startswith("model/"):
            facts = from_json(ModelVersion, change.body, newer=True)
            if not facts.variant_of:
                return state
            variants = {**state.picture.variants, f"{facts.model}/{facts.variant_of}": facts.version}
            return replace(state, picture=replace(state.picture, variants=variants))
        if change.key.startswith("canary/"):
            return _tried(state, change, from_json(Canary, change.body, newer=True))
        for name in (POOL, SLOW_POOL):
            pool = pool_in(state, name)
            if change.key == f"scaling/{name}":
                policy = from_json(ScalingPolicy, change.body, newer=True)
                if pool.policy is None:  # what was said before it was not listened to
                    state = replace(state, blind_until_us=max(state.blind_until_us, now_us + params.picture.silent_us))
                return with_pool(state, name, replace(pool, policy=policy, said=""))
            if change.key == f"replicas/{name}":
                noted = from_json(Replicas, change.body, newer=True)
                return with_pool(state, name, replace(pool, replicas=noted.replicas))
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body
    return state


def _bound(state: State, change: MemoryEvent) -> State:
    """A bound of a model's batches that stands now, or none any more."""
    model = change.key.partition("/")[2]
    raised = {name: bound for name, bound in state.picture.raised.items() if name != model}
    if change.body is not None:
        raised[model] = from_json(BatchBound, change.body, newer=True).max_items
    return _answered(replace(state, picture=replace(state.picture, raised=raised)))


def _tried(state: State, change: MemoryEvent, canary: Canary) -> State:
    """A canary of ours is a variant in use; whatever else becomes of a model's canary ends that.

    One that ends with an activation failed nothing: it may serve for its version again.
    """
    picture = state.picture
    in_use = {name: version for name, version in picture.in_use.items() if name != canary.model}
    if change.agent == vertical.AGENT:
        if canary.weight_percent:
            in_use[canary.model] = canary.version
    elif picture.in_use.get(canary.model) == canary.version and change.command_id != state.activated_by:
        # It failed its rows, or somebody does not want it.
        mine = f"{canary.model}/"
        variants = {
            name: version
            for name, version in picture.variants.items()
            if not (name.startswith(mine) and version == canary.version)
        }
        picture = replace(picture, variants=variants)
    return _answered(replace(state, picture=replace(picture, in_use=in_use)))


def _answered(state: State) -> State:
    """No vertical step is under way."""
    return replace(state, vertical_us=0, slow=replace(state.slow, vertical_us=0))


def _act(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """A look at each pool that is scaled here."""
    said: list[Publish] = []
    for name in (POOL, SLOW_POOL) if params.most_slow else (POOL,):
        heard = state.picture, state.listening_us, state.blind_until_us
        pool, effects = look_at(Look(name, pool_in(state, name), *heard, now_us, params))
        state = with_pool(state, name, pool)
        said += effects
    return state, tuple(said)


def scaler(params: Params) -> AgentSpec:
    """The Scaler with these parameters."""

    def ignores(state: State, record: Any) -> bool:
        """Whether a record would change nothing: heartbeats of other roles, and most reports of what waits."""
        slow = state.slow.policy is not None
        if isinstance(record, RouterLoad | ExecutorLoad) and state.policy is None and not slow:
            return True
        return load_picture.tells_nothing(state.picture, record, params.picture, slow=slow)

    return AgentSpec(
        name="scaler",
        consumes=("control.heartbeats", "control.load", "control.executor-load", "control.scale-confirmations"),
        watches=("memory.events",),
        emits=("control.scale-actions", "memory.commands"),
        tick_ms=1_000,
        initial=lambda params: State(),
        decide=decide,
        journaled=True,
        ignores=ignores,
        params=params,
        forgotten=("heard_us", "load", "target"),
    )


SCALER: Final = scaler(Params())
