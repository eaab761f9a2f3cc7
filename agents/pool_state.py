"""What the Scaler holds of one pool of executors. Pure.

In its state the fast pool's fields stand beside the others, where they always stood, and the slow pool's in one field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeVar

from agents.forecast_rate import Holt
from agents.replica_need import REST, Pressure
from schemas.scaling import ScaleConfirmation, ScalingPolicy
from streams.lane_class import SLOW_POOL

UNKNOWN: Final = -1
_S = TypeVar("_S", bound=Any)


@dataclass(frozen=True, slots=True)
class Standing:
    """An action that its supervisor has not confirmed yet."""

    action_id: str
    target: int
    since_us: int


@dataclass(frozen=True, slots=True)
class PoolState:
    """``replicas`` as the supervisor said last (-1: never). ``ended_us``: when the last action ended.

    ``said``: what the last hold was about, at ``published_us``. ``vertical_us``: when a vertical step was proposed that
    memory has not confirmed; ``calm_us``: since when none is needed; ``short_us``: since when more replicas are needed
    than are allowed. ``work``: the work in executors, while a policy
    foresees. ``rest_until_us``: no action before, after one that failed.
    """

    policy: ScalingPolicy | None = None
    replicas: int = UNKNOWN
    standing: Standing | None = None
    pressure: Pressure = REST
    work: Holt | None = None
    ended_us: int = 0
    rest_until_us: int = 0
    said: str = ""
    published_us: int = 0
    vertical_us: int = 0
    calm_us: int = 0
    short_us: int = 0


_FIELDS: Final = tuple(each.name for each in fields(PoolState))


def pool_in(state: Any, name: str) -> PoolState:
    """A pool's part of the Scaler's state."""
    slow: PoolState = state.slow
    return slow if name == SLOW_POOL else PoolState(*[getattr(state, each) for each in _FIELDS])


def with_pool(state: _S, name: str, pool: PoolState) -> _S:
    """The state with another part of a pool; the same object where nothing differs."""
    if pool_in(state, name) == pool:
        return state
    if name == SLOW_POOL:
        return replace(state, slow=pool)
    return replace(state, **{each: getattr(pool, each) for each in _FIELDS})


def confirmed(pool: PoolState, confirmation: ScaleConfirmation, now_us: int, retry_us: int) -> PoolState:
    """After a supervisor's answer to the action that stands; other answers change nothing."""
    if pool.standing is None or confirmation.action_id != pool.standing.action_id:
        return pool
    rest = 0 if confirmation.outcome == "done" else now_us + retry_us
    return replace(
        pool, standing=None, replicas=confirmation.replicas, ended_us=now_us, rest_until_us=rest, said=""
    )  # fmt: skip
