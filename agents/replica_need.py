"""How many replicas a demand needs within a policy, and when a need that lasts becomes a step. Pure.

Need: the most of what work, backlog, ongoing rows and waiting rows ask for, within floor and ceiling. Down, a tenth of
work more is counted (the tolerance of Kubernetes' autoscaler), so that a load at a boundary stays on one side.

Step (Ray Serve's delays): up once more were needed for ``upscale_delay_s`` without a break, to the least that the last
two looks asked for; down once fewer were needed for ``downscale_delay_s``, to the most that any look in that time asked
for. ``cooldown_s`` keeps steps apart, but not an upward one while what waits takes longer than ``drain_s``, or while
edges refuse rows for want of executors: then no backlog gets that long. From zero it is up at once. What is not known
(``Demand.gaps``) never lowers and breaks a wait for it.

Any number from 1 to the lanes is a step: a Router uses as many lanes as there are replicas, so each replica has one,
and none has two while another has one, which is what divisors of a fixed number of partitions are for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from agents.capacity import replicas_for
from agents.load_picture import Demand
from schemas.scaling import ScalingPolicy

TOLERANCE: Final = 1.1
SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas within the policy: ``up`` to carry the demand, ``down`` with the tolerance.

    ``why``: what was measured and how many that asks for. ``urgent``: what waits takes the present ones longer than
    ``drain_s``, or rows are refused. ``short``: more would be needed than are allowed.
    """

    up: int
    down: int
    why: str
    urgent: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True)
class Pressure:
    """Since when more (fewer) were needed than there are, 0 for not; the last need up, the most that was needed."""

    up_since_us: int = 0
    up_last: int = 0
    down_since_us: int = 0
    down_most: int = 0


REST: Final = Pressure()


def need_of(demand: Demand, policy: ScalingPolicy, current: int, ahead: float = 0.0) -> Need:
    """What ``demand`` needs while there are ``current``; ``ahead``: the work that is foreseen, in executors."""
    offered = demand.rows_per_s + demand.waiting / policy.drain_s
    if offered < policy.scale_above_rows_per_s:
        why = f"{round(offered)} rows/s are below the {policy.scale_above_rows_per_s} from which it scales"
        return Need(policy.floor, policy.floor, why)
    work = max(demand.work, ahead) + demand.backlog_s / policy.drain_s
    asked = [(replicas_for(work, policy.target_utilization_percent), _work_sentence(demand, policy, ahead))]
    for count, target, what in (
        (demand.ongoing, policy.target_ongoing_requests, "under way"),
        (demand.waiting, policy.lag_threshold, "waiting"),
    ):
        if target:
            asked.append((math.ceil(round(count / target, 6)), f"{round(count)} items {what} at {target} per replica"))
    wanted, why = max(asked, key=lambda each: each[0])
    lower = max(wanted, replicas_for(work * TOLERANCE, policy.target_utilization_percent))
    ceiling, floor = policy.ceiling, policy.floor
    why += f": {wanted} needed"
    if wanted > ceiling:
        most = f"the budget pays for {ceiling}" if ceiling < policy.max_replicas else f"at most {ceiling} are allowed"
        why += f", {most}"
    elif wanted < floor:
        why += f", at least {floor} stay"
    urgent = demand.refused_per_s > 0 or demand.backlog_s > policy.drain_s * max(1, current)
    return Need(min(max(wanted, floor), ceiling), min(max(lower, floor), ceiling), why, urgent, wanted > ceiling)


def _work_sentence(demand: Demand, policy: ScalingPolicy, ahead: float) -> str:
    foreseen = f", {ahead:.2f} foreseen" if ahead > demand.work else ""
    lag = f", {demand.waiting} items wait ({demand.backlog_s:.2f} s)" if demand.waiting else ""
    refused = f" ({round(demand.refused_per_s)} refused)" if demand.refused_per_s else ""
    return (
        f"{round(demand.items_per_s)} items/s{refused} keep {demand.work:.2f} executors busy{foreseen}{lag}; "
        f"each is to be busy for {policy.target_utilization_percent} %"
    )


def pressed(pressure: Pressure, need: Need, current: int, now_us: int, *, complete: bool) -> Pressure:
    """The pressure after a look; what is not ``complete`` presses only upwards."""
    if need.up > current:
        return Pressure(up_since_us=pressure.up_since_us or now_us, up_last=need.up)
    if need.down < current and complete:
        return Pressure(
            down_since_us=pressure.down_since_us or now_us,
            down_most=max(pressure.down_most, need.down) if pressure.down_since_us else need.down,
        )
    return REST


def step_of(
    before: Pressure, after: Pressure, need: Need, policy: ScalingPolicy, current: int, now_us: int, ended_us: int
) -> int:
    """The number of replicas to go to; ``current`` for none. ``ended_us``: when the last step ended (0: none yet)."""
    cool = now_us - ended_us >= policy.cooldown_s * SECOND_US
    if after.up_since_us:
        if current == 0:
            return need.up
        if now_us - after.up_since_us >= policy.upscale_delay_s * SECOND_US and (cool or need.urgent):
            return min(need.up, before.up_last) if before.up_since_us else need.up
    if after.down_since_us and cool and now_us - after.down_since_us >= policy.downscale_delay_s * SECOND_US:
        return after.down_most
    return current
