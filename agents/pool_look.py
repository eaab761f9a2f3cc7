"""A look of the Scaler at one pool: what it needs, whether that is a step yet, and what is said of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents import load_picture, vertical
from agents.forecast_rate import forecast, observed
from agents.load_picture import Demand, Picture, PictureParams
from agents.pool_state import UNKNOWN, PoolState, Standing
from agents.replica_need import REST, SECOND_US, Need, need_of, pressed, step_of
from schemas.scaling import MOST_REPLICAS, ScaleAction, ScalingPolicy
from streams.agent import Publish
from streams.lane_class import SLOW_POOL

LEAST_HOLD_US: Final = 5_000_000
"""Between two holds whose reasons differ."""


@dataclass(frozen=True, slots=True)
class Params:
    """``pause_us``: own silence after which it listens anew, for ``picture.silent_us``; ``repeat_us``: longest pause.

    After an own silence of ``outage_us`` it listens for ``settle_us``: what was held up meanwhile comes all at once.
    ``confirm_us``: how long an action stands without an answer; ``retry_us``: rest after one that failed.
    ``most_replicas``: how many there can be, whatever a policy says: as many as there are fast lanes, ``most_slow``
    slow ones (0: that pool does not scale). ``policy`` takes the place of its pool's in memory: for ``isos backtest``,
    which so shows what another one would have done.
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
    most_slow: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """A look at one pool: its name, its state, what is known of the load, when.

    ``listening_us``: since when loads are listened to without a pause; ``blind_until_us``: till then nothing is judged.
    """

    name: str
    pool: PoolState
    picture: Picture
    listening_us: int
    blind_until_us: int
    now_us: int
    params: Params

    @property
    def slow(self) -> bool:
        """Whether it is the pool of the slow lanes."""
        return self.name == SLOW_POOL

    def after(self, **changes: Any) -> Look:
        """The same look with something else in the pool's state."""
        return replace(self, pool=replace(self.pool, **changes))


Said = tuple[PoolState, tuple[Publish, ...]]
"""A pool's state after a look, and what is published of it."""


def look_at(look: Look) -> Said:
    """What becomes of the pool, and what is said: an action, a hold, or nothing."""
    params, now_us, picture = look.params, look.now_us, look.picture
    live = load_picture.live_executors(picture, now_us, params.picture, slow=look.slow)
    other = params.policy if params.policy is not None and params.policy.pool == look.name else None
    wanted = other or look.pool.policy
    if wanted is None:
        return _without_policy(look, live)
    policy = wanted.within(params.most_slow if look.slow else params.most_replicas)
    standing = look.pool.standing
    if standing is not None:
        if now_us - standing.since_us < params.confirm_us:
            return look.pool, ()
        look = look.after(standing=None, ended_us=now_us, rest_until_us=now_us + params.retry_us)
    current = live if look.pool.replicas == UNKNOWN else look.pool.replicas
    blind = _blind(look, live, current)
    if blind:
        return _hold(look.after(pressure=REST), current, blind, blind)
    demand = load_picture.demand_of(picture, now_us, params.picture, slow=look.slow)
    look, ahead = _foresee(look, demand, policy)
    if _is_idle(look, demand, policy):
        if current == 0:
            return _hold(look, 0, "idle", f"{_idle(look)}; it sleeps")
        if now_us >= look.pool.rest_until_us:
            return _scale(look, current, 0, _idle(look))
    if current == 0 and demand.is_zero and policy.min_replicas == 0:
        return _hold(look, 0, "asleep", "no row comes or waits; it sleeps")
    need = need_of(demand, policy, current, ahead)
    before = look.pool.pressure
    after = pressed(before, need, current, now_us, complete=not demand.gaps)
    look = look.after(pressure=after)
    target = step_of(before, after, need, policy, current, now_us, look.pool.ended_us)
    look, step = _vertical(look, demand, need, policy, current, target)
    if step is not None:
        return _propose(look, step)
    if target != current and now_us >= look.pool.rest_until_us:
        return _scale(look, current, target, _sentence(need, demand, target))
    about = f"{need.up}/{need.down}/{need.short}/{bool(demand.gaps)}"
    return _hold(look, current, about, _sentence(need, demand, current))


def _vertical(
    look: Look, demand: Demand, need: Need, policy: ScalingPolicy, current: int, target: int
) -> tuple[Look, vertical.Step | None]:
    """A vertical step in place of one more replica, or of one that is not allowed, or back.

    None while an earlier one is not confirmed.
    """
    work = vertical.without_variants(demand.work, look.picture, look.params.picture, slow=look.slow)
    calm = vertical.is_calm(work, policy, current) and not demand.gaps
    since = (look.pool.calm_us or look.now_us) if calm else 0
    short = (look.pool.short_us or look.now_us) if need.short and current >= need.up else 0
    if (since, short) != (look.pool.calm_us, look.pool.short_us):
        look = look.after(calm_us=since, short_us=short)
    if look.pool.vertical_us and look.now_us - look.pool.vertical_us < look.params.retry_us:
        return look, None
    about = look.picture, policy, look.params.picture
    if target > current > 0:
        return look, vertical.raised(*about, slow=look.slow)
    if short and look.now_us - max(short, look.pool.ended_us) >= policy.upscale_delay_s * SECOND_US:
        step = vertical.cheaper(*about, slow=look.slow)
        if step is not None:
            return look, step
    calm = calm and look.now_us - since >= policy.downscale_delay_s * SECOND_US
    return look, vertical.lowered(*about, slow=look.slow, calm=calm)


def _propose(look: Look, step: vertical.Step) -> Said:
    """Ask the Orchestrator for a vertical step; one up has a cooldown as every step."""
    command = step.command(look.now_us)
    look = look.after(vertical_us=look.now_us)
    if step.is_up:
        look = look.after(pressure=REST, ended_us=look.now_us)
    return look.pool, (Publish("memory.commands", command.key.encode(), command),)


def _blind(look: Look, live: int, current: int) -> str:
    """Why nothing can be judged now, or an empty string."""
    if look.now_us < look.blind_until_us:
        return "it listens again only now; without data the number of replicas stays"
    if not load_picture.live_routers(look.picture, look.now_us, look.params.picture):
        return "no Router is heard; without data the number of replicas stays"
    if not live and current:
        return "no executor is heard; without data the number of replicas stays"
    return ""


def _foresee(look: Look, demand: Demand, policy: ScalingPolicy) -> tuple[Look, float]:
    """The work to come, where the policy says how far ahead; what is not complete is not learnt from."""
    known = look.pool.work
    if not policy.forecast_s:
        return (look if known is None else look.after(work=None)), 0.0
    work = known if demand.gaps else observed(known, demand.work, look.now_us)
    ahead = 0.0 if work is None else round(forecast(work, policy.forecast_s), 6)
    return look.after(work=work), ahead


def _idle_us(look: Look) -> int:
    """For how long no row has come."""
    picture = look.picture
    return look.now_us - max(picture.busy_slow_us if look.slow else picture.busy_us, look.listening_us)


def _is_idle(look: Look, demand: Demand, policy: ScalingPolicy) -> bool:
    is_quiet = demand.is_zero and not demand.gaps
    return policy.min_replicas == 0 and is_quiet and _idle_us(look) >= policy.idle_s * SECOND_US


def _idle(look: Look) -> str:
    return f"no row came for {_idle_us(look) // SECOND_US} s"


def _sentence(need: Need, demand: Demand, target: int) -> str:
    stay = f"; {target} stay for now" if need.up != target else ""
    return f"{need.why}{stay}{f'; {demand.gaps[0]}' if demand.gaps else ''}"


def _scale(look: Look, current: int, target: int, why: str) -> Said:
    action_id = f"{look.name}/{look.now_us}"
    decision = "scale_up" if target > current else "scale_down"
    action = ScaleAction(action_id, look.name, decision, current, target, _ended(why), look.now_us)
    standing = Standing(action_id, target, look.now_us)
    look = look.after(standing=standing, pressure=REST, said=f"acted {target}", published_us=look.now_us)
    return look.pool, (Publish("control.scale-actions", look.name.encode(), action),)


def _hold(look: Look, current: int, about: str, why: str) -> Said:
    said, past_us = f"{current}: {about}", look.now_us - look.pool.published_us
    if past_us < (look.params.repeat_us if said == look.pool.said else LEAST_HOLD_US):
        return look.pool, ()
    name = look.name
    action = ScaleAction(f"{name}/{look.now_us}", name, "hold", current, current, _ended(why), look.now_us)
    look = look.after(said=said, published_us=look.now_us)
    return look.pool, (Publish("control.scale-actions", name.encode(), action),)


def _without_policy(look: Look, live: int) -> Said:
    """Hold with those that are heard; before one was nothing is said, nor of the slow pool, whom nobody listens to."""
    if look.slow or (not live and not look.pool.published_us):
        return look.pool, ()
    if not live:
        return _hold(look, max(0, look.pool.replicas), "none", "no executor is heard")
    why = f"{live} executors are heard; no policy says how to scale (`isos scaling set`)"
    return _hold(look, live, "no policy", why)


def _ended(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."
