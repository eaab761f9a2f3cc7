"""Vertical steps: before another replica, larger batches of the busiest model, where that carries more in time. Pure.

A batch of n items takes t(n) = fixed + per_item n, so an item takes t(n) / n: less, the more of the time is fixed.
Executors make batches as large as their fixed part is worth (``executors/profile.py``) and no larger, for what waits
behind one waits the longer. Where a pool would get another replica, that bound is raised instead if

    t(cap) / cap > (1 + least gain) t(n) / n        and        2 t(n) <= the latency of the model's SLO,

for a row may wait for one batch before its own. n is doubled as long as that holds, up to the model's own limit.
Without an SLO on latency nothing is raised. It goes back once the pool has its fewest replicas and they are half idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agents.capacity import item_us
from agents.load_picture import Picture, PictureParams, goes_slow, work_by_model
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand
from schemas.scaling import BATCH, BatchBound, ScalingPolicy
from streams.canonical import to_json

CALM_SHARE: Final = 0.5
"""Of what replicas may be busy: below it larger batches are not needed."""


@dataclass(frozen=True, slots=True)
class Step:
    """A bound to propose, 0 to go back to the executors' own; why, and what told of the load."""

    model: str
    max_items: int
    why: str
    causes: tuple[RecordCoordinate, ...] = ()

    def command(self, now_us: int) -> MemoryCommand:
        """The proposal to the Orchestrator."""
        key, body = f"vertical/{self.model}", to_json(BatchBound(self.model, self.max_items))
        return MemoryCommand(f"{key}/{now_us}", "scaler", "BoundBatches", key, -1, body, self.why, self.causes, now_us)


def raised(picture: Picture, policy: ScalingPolicy, params: PictureParams, *, slow: bool) -> Step | None:
    """A larger batch of the pool's busiest model; None where none is worth it or its times are not known."""
    work = work_by_model(picture, params, slow=slow)
    model = max(sorted(work), key=lambda each: work[each], default="")
    planned = picture.plans.get(model)
    if BATCH not in policy.vertical or planned is None or not planned.latency_us:
        return None
    version = max(sorted(planned.shares), key=lambda each: planned.shares[each])
    cap, times = picture.caps.get(f"{model}/{version}", 0), picture.times.get(f"{model}/{version}")
    if not cap or times is None:
        return None
    fixed_us, per_item_us = times
    found = cap
    while (more := min(2 * found, planned.max_batch_size)) > found:
        if 2 * (fixed_us + per_item_us * more) > planned.latency_us:
            break
        found = more
    now_us, then_us = (item_us(fixed_us, per_item_us, size) for size in (cap, found))
    gain = round((now_us / then_us - 1) * 100, 3) if then_us > 0 else 0.0
    is_asked = picture.raised.get(model, 0) >= found  # executors may follow late, or not at all
    if found == cap or is_asked or gain < policy.vertical_gain_percent:
        return None
    why = (
        f"Batches of {model} up to {found} items instead of {cap} carry {gain:.0f} % more and take "
        f"{(fixed_us + per_item_us * found) / 1e3:.0f} ms, before another replica."
    )
    told = [load.told for key, load in sorted(picture.loads.items()) if key.rpartition("/")[0] == model]
    return Step(model, found, why, tuple([each for each in told if each is not None]))


def is_calm(work: float, policy: ScalingPolicy, current: int) -> bool:
    """Whether the fewest replicas are left and they are half idle."""
    return current <= policy.floor and work * 100 <= CALM_SHARE * policy.target_utilization_percent * max(1, current)


def lowered(picture: Picture, policy: ScalingPolicy, params: PictureParams, *, slow: bool, calm: bool) -> Step | None:
    """A bound to take back: where it is ``calm``, or the policy wants none any more."""
    if not calm and BATCH in policy.vertical:
        return None
    model = next((each for each in sorted(picture.raised) if goes_slow(picture, each, params) == slow), "")
    if not model:
        return None
    why = "the load is gone" if calm else "the policy wants no vertical steps"
    return Step(model, 0, f"Batches of {model} are as large as executors make them again: {why}.")
