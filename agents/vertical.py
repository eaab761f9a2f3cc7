"""Vertical steps: before another replica larger batches, and where no more are allowed a cheaper version. Pure.

A batch of n items takes t(n) = fixed + per_item n, so an item takes t(n) / n: less, the more of the time is fixed.
Executors make batches as large as their fixed part is worth (``executors/profile.py``) and no larger, for what waits
behind one waits the longer. Where a pool would get another replica, that bound is raised instead if

    t(cap) / cap > (1 + least gain) t(n) / n        and        2 t(n) <= the latency of the model's SLO,

for a row may wait for one batch before its own. n is doubled as long as that holds, up to the model's own limit.
Without an SLO on latency nothing is raised. Where more replicas are needed than are allowed, the version that is
declared a variant of the busiest model's (``variant_of``) gets nearly all its rows, as a canary that is watched as any;
one that was taken back for its rows is not tried again. Both go back once the pool has its fewest replicas and they are
half idle. What the Orchestrator refused is asked for again only when something else is so (``after_answer``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from agents.capacity import item_us, work_of
from agents.load_picture import Picture, PictureParams, Planned, goes_slow, work_by_model
from schemas.canary import MOST_PERCENT, Canary
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.scaling import BATCH, VARIANT, BatchBound, ScalingPolicy
from streams.canonical import to_json

AGENT: Final = "scaler"
UNANSWERED: Final = ("CommandRejected", "ReviewOpened")
"""Events of a proposal that changed nothing: it was refused, or it waits for people."""

CALM_SHARE: Final = 0.5
"""Of what replicas may be busy: below it larger batches are not needed."""


@dataclass(frozen=True, slots=True)
class Step:
    """A bound to propose, or ``variant`` and its share in percent; 0 to go back. Why, and what told of the load."""

    model: str
    amount: int
    why: str
    causes: tuple[RecordCoordinate, ...] = ()
    variant: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it is one for more load."""
        return self.amount > 0

    def command(self, now_us: int) -> MemoryCommand:
        """The proposal to the Orchestrator; its id begins with its key."""
        kind, key, body = "BoundBatches", f"vertical/{self.model}", to_json(BatchBound(self.model, self.amount))
        if self.variant:
            kind, key = "SetCanary", f"canary/{self.model}"
            body = to_json(Canary(self.model, self.variant, self.amount))
        return MemoryCommand(f"{key}/{now_us}", AGENT, kind, key, -1, body, self.why, self.causes, now_us)


def raised(picture: Picture, policy: ScalingPolicy, params: PictureParams, *, slow: bool) -> Step | None:
    """A larger batch of the pool's busiest model; None where none is worth it or its times are not known."""
    model = _busiest(picture, params, slow=slow)
    planned = picture.plans.get(model)
    if BATCH not in policy.vertical or planned is None or not planned.latency_us:
        return None
    if f"vertical/{model}" in picture.refused:
        return None
    version = _main(planned)
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
    return Step(model, found, why, _told(picture, model))


def cheaper(picture: Picture, policy: ScalingPolicy, params: PictureParams, *, slow: bool) -> Step | None:
    """The declared variant of what the busiest model's rows go to; None where there is none, or it is in use."""
    model = _busiest(picture, params, slow=slow)
    planned = picture.plans.get(model)
    if VARIANT not in policy.vertical or planned is None or model in picture.in_use or len(planned.shares) > 1:
        return None
    version = _main(planned)
    variant = picture.variants.get(f"{model}/{version}", "")
    if not variant or f"canary/{model}" in picture.refused:
        return None
    why = f"{model} {variant}, a variant of {version}, serves: more replicas are needed than are allowed."
    return Step(model, MOST_PERCENT, why, _told(picture, model), variant)


def after_answer(picture: Picture, change: MemoryEvent) -> Picture:
    """With a step of ours that was refused or parked noted, or without those that an event may have made possible."""
    if change.agent == AGENT and change.kind in UNANSWERED:
        key = change.command_id.rpartition("/")[0]
        refused = tuple(sorted({*picture.refused, key}))
    else:
        refused = tuple([key for key in picture.refused if not _may_allow(change.key, key)])
    return picture if refused == picture.refused else replace(picture, refused=refused)


def _may_allow(changed: str, refused: str) -> bool:
    """Whether a change under one key of memory may turn the answer to what was refused under another."""
    kind, _, model = refused.partition("/")
    if changed == "environment" or changed.startswith(("scaling/", f"model/{model}/")):
        return True
    if kind == "vertical":
        return changed in (refused, f"plan/{model}")
    return changed in (refused, f"active/{model}") or changed.startswith(f"breaker/{model}/")


def _busiest(picture: Picture, params: PictureParams, *, slow: bool) -> str:
    """The model of a pool that keeps executors busiest; empty without one."""
    work = work_by_model(picture, params, slow=slow)
    return max(sorted(work), key=lambda each: work[each], default="")


def _main(planned: Planned) -> str:
    """The version that most rows go to."""
    return max(sorted(planned.shares), key=lambda each: planned.shares[each])


def _told(picture: Picture, model: str) -> tuple[RecordCoordinate, ...]:
    """Where the newest words on a model's load stand."""
    told = [load.told for key, load in sorted(picture.loads.items()) if key.rpartition("/")[0] == model]
    return tuple([each for each in told if each is not None])


def without_variants(work: float, picture: Picture, params: PictureParams, *, slow: bool) -> float:
    """The work of a pool if versions served that variants serve for: what is light with them may not be without."""
    mine = work_by_model(picture, params, slow=slow)
    for model, variant in sorted(picture.in_use.items()):
        planned = picture.plans.get(model)
        known = [name for name in sorted(picture.times) if name.startswith(f"{model}/")]
        version = next((name for name in known if picture.variants.get(name) == variant), "")
        if planned is None or model not in mine or not version:
            continue
        loads = [load for key, load in sorted(picture.loads.items()) if key.rpartition("/")[0] == model]
        rows, items = sum(load.rows_per_s for load in loads), sum(load.items_per_s for load in loads)
        time_us = item_us(*picture.times[version], planned.max_batch_size)
        work += max(0.0, work_of(rows, items, time_us) - mine[model])
    return round(work, 6)


def is_calm(work: float, policy: ScalingPolicy, current: int) -> bool:
    """Whether the fewest replicas are left and they are half idle."""
    return current <= policy.floor and work * 100 <= CALM_SHARE * policy.target_utilization_percent * max(1, current)


def lowered(picture: Picture, policy: ScalingPolicy, params: PictureParams, *, slow: bool, calm: bool) -> Step | None:
    """What is taken back: the variant, then the bound; where it is ``calm``, or the policy wants none any more."""
    why = "the load is gone" if calm else "the policy wants no such steps"
    for kind, standing in ((VARIANT, picture.in_use), (BATCH, picture.raised)):
        model = next((each for each in sorted(standing) if goes_slow(picture, each, params) == slow), "")
        if not model or not (calm or kind not in policy.vertical):
            continue
        if kind == VARIANT:
            variant = picture.in_use[model]
            return Step(model, 0, f"{model} {variant}, a variant, serves no more: {why}.", variant=variant)
        return Step(model, 0, f"Batches of {model} are as large as executors make them again: {why}.")
    return None
