"""What serving a model takes, for its plan: from profiled times, the observed rate and Holt's forecast. Pure.

Every plan is an event of memory, so a plan does not follow each wiggle of a rate: its capacity is reckoned anew only
when more executors were needed for ``MORE_US``, or fewer for ``FEWER_US`` with a tolerance of a tenth, without a break.
While one executor is enough, as for nearly every model, a plan has no capacity. The forecast counts as far as it is
``MOST_GROWTH`` times what is seen: after a step a trend overshoots for a minute.

Rates come from the Routers each second; one in ``SAMPLE_US`` is taken, and none of a load that is light. Times come
with every heartbeat; they are taken when they are new or differ by more than a quarter, since executors do not profile
alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agents.capacity import item_us, replicas_for, work_of
from agents.forecast_rate import Holt, forecast, observed
from schemas.coordinate import RecordCoordinate
from schemas.plan import Capacity, Plan
from schemas.scaling import ScalingPolicy
from schemas.telemetry import LoadedModel, RouterLoad
from streams.lane_class import POOL

SAMPLE_US: Final = 4_500_000
LIGHT: Final = 0.05
MORE_US: Final = 30_000_000
FEWER_US: Final = 120_000_000
FORGET_US: Final = 60_000_000
AHEAD_S: Final = 30.0
MOST_GROWTH: Final = 1.25
CHANGED: Final = 1.25
TOLERANCE: Final = 1.1


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest word of a Router, or of an edge that refuses, on a model."""

    rows_per_s: float
    items_per_s: float
    sent_us: int


@dataclass(frozen=True, slots=True)
class Profiled:
    """How long batches of a version take, microseconds, and on what."""

    fixed_us: float
    per_item_us: float
    device: str


@dataclass(frozen=True, slots=True)
class Sizing:
    """``profiles`` and ``file_bytes`` by version, ``seen`` by who told, ``rate`` of items a second.

    ``capacity`` goes into the plan; ``since_us``: since when another number is needed, 0 for not. ``told``: where the
    newest word that was taken stands.
    """

    profiles: Mapping[str, Profiled] = field(default_factory=dict)
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    rate: Holt | None = None
    capacity: Capacity | None = None
    since_us: int = 0
    told: RecordCoordinate | None = None


def is_new_profile(sizing: Sizing, loaded: LoadedModel) -> bool:
    """Whether an executor's times of a version say something new."""
    known = sizing.profiles.get(loaded.version)
    if known is None or known.device != loaded.execution_provider:
        return True
    before, now = known.fixed_us + known.per_item_us, loaded.fixed_us + loaded.per_item_us
    return not before <= now * CHANGED or not now <= before * CHANGED


def profiled(sizing: Sizing, loaded: LoadedModel) -> Sizing:
    """With an executor's times of a version."""
    found = Profiled(loaded.fixed_us, loaded.per_item_us, loaded.execution_provider)
    return replace(sizing, profiles={**sizing.profiles, loaded.version: found})


def is_sample(sizing: Sizing, load: RouterLoad) -> bool:
    """Whether a Router's word is taken: a first one that counts, one in ``SAMPLE_US``, and one that ends a load."""
    known = sizing.seen.get(_sender(load))
    if known is None or _is_light(sizing, known.rows_per_s, known.items_per_s):
        return not _is_light(sizing, _rows(load), load.items_per_s)
    return not _rows(load) or load.sent_us - known.sent_us >= SAMPLE_US


def _is_light(sizing: Sizing, rows: float, items: float) -> bool:
    """Whether a load keeps an executor busy for less than ``LIGHT`` of its time, even in batches of one."""
    slowest_us = max((each.fixed_us + each.per_item_us for each in sizing.profiles.values()), default=0.0)
    return work_of(rows, items, slowest_us) < LIGHT


def loaded(sizing: Sizing, load: RouterLoad, now_us: int, told: RecordCoordinate | None = None) -> Sizing:
    """With a Router's word; those that were not heard for long have lost their partitions to others."""
    mine = Seen(_rows(load), load.items_per_s or _rows(load), min(load.sent_us, now_us))
    seen = {**sizing.seen, _sender(load): mine}
    seen = {instance: each for instance, each in seen.items() if now_us - each.sent_us < FORGET_US}
    items = sum(each.items_per_s for _, each in sorted(seen.items()))
    return replace(sizing, seen=seen, rate=observed(sizing.rate, items, now_us), told=told)


def _sender(load: RouterLoad) -> str:
    return f"{load.source}-{load.instance}"


def _rows(load: RouterLoad) -> float:
    """Rows a second that were given to lanes, or refused for want of executors."""
    return load.rows_per_s if load.source == "router" else load.refused_per_s


def judged(sizing: Sizing, plan: Plan, policy: ScalingPolicy | None, now_us: int) -> Sizing:
    """With the capacity that ``plan``'s versions take now, if another number has been needed for long enough."""
    if sizing.rate is None:
        return sizing
    policy = policy or ScalingPolicy(POOL)
    standing = sizing.capacity.replicas if sizing.capacity is not None else 1
    needed = _needed(sizing, plan, policy)
    if needed == standing or (needed < standing <= _needed(sizing, plan, policy, TOLERANCE)):
        return sizing if not sizing.since_us else replace(sizing, since_us=0)
    if not sizing.since_us:
        return replace(sizing, since_us=now_us)
    if now_us - sizing.since_us < (MORE_US if needed > standing else FEWER_US):
        return sizing
    return replace(sizing, since_us=0, capacity=_capacity(sizing, plan, policy, needed) if needed > 1 else None)


def _needed(sizing: Sizing, plan: Plan, policy: ScalingPolicy, times: float = 1.0) -> int:
    """Executors that are needed for the rate, or the foreseen one where that is higher."""
    rows, items = _rates(sizing)
    foreseen = 0.0 if sizing.rate is None else forecast(sizing.rate, AHEAD_S)
    growth = min(max(1.0, foreseen / items), MOST_GROWTH) if items else 1.0
    time_us = 0.0
    for share in plan.versions:
        known = sizing.profiles.get(share.version)
        if known is not None:
            of_item = item_us(known.fixed_us, known.per_item_us, plan.max_batch_size)
            time_us += share.weight_percent / 100 * of_item
    work = work_of(rows * growth, items * growth, time_us) * times
    return max(1, replicas_for(work, policy.target_utilization_percent))


def _rates(sizing: Sizing) -> tuple[float, float]:
    """Rows and items a second over all Routers."""
    seen = [each for _, each in sorted(sizing.seen.items())]
    return sum(each.rows_per_s for each in seen), sum(each.items_per_s for each in seen)


def _capacity(sizing: Sizing, plan: Plan, policy: ScalingPolicy, replicas: int) -> Capacity:
    versions = [share.version for share in plan.versions]
    devices = [sizing.profiles[version].device for version in versions if version in sizing.profiles]
    file_bytes = sum(sizing.file_bytes.get(version, 0) for version in (*versions, *plan.fallbacks))
    foreseen = 0.0 if sizing.rate is None else forecast(sizing.rate, AHEAD_S)
    return Capacity(
        replicas=replicas,
        device=devices[0] if devices else "",
        memory_bytes=file_bytes,
        items_per_s=round(_rates(sizing)[1], 1),
        forecast_per_s=round(foreseen, 1),
        cost_milli=replicas * policy.cost_per_replica_milli,
    )
