"""What the Scaler knows of the load: who is heard, what is routed, what waits, how long it takes. Pure.

Of each it holds the newest word and when that was sent. What is missing or old is said (``gaps``) and never counted as
zero: a Router tells of a model once more when its rows are over, and an executor when nothing waits in it any more, so
an old word that is not zero is one that nobody has taken back. After ``forget_us`` it is forgotten: its sender is gone
and others have its partitions, or the word that took it back was lost.

Each pool has its own executors and models: those of the fast lanes and those of the slow ones, where there are any.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents.capacity import item_us, work_of
from schemas.coordinate import RecordCoordinate
from schemas.load import ExecutorLoad
from schemas.plan import SLOW, Plan
from schemas.telemetry import Heartbeat, RouterLoad

REPORT_US: Final = 900_000
"""Of an executor's reports of what waits, which come four times a second, one is enough."""


@dataclass(frozen=True, slots=True)
class PictureParams:
    """``silent_us``: older words are old; ``forget_us``: when they go. ``first_slow``: least number of a slow executor.

    ``has_slow``: whether there are slow lanes.
    """

    silent_us: int = 5_000_000
    forget_us: int = 60_000_000
    first_slow: int = 1_000_000
    has_slow: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """Newest load of a model at a Router: rows and items per second, rows held without a plan, sent at ``sent_us``.

    ``is_refused``: it was refused at an edge, since executors would be too late with it. ``told``: where it stands.
    """

    rows_per_s: float
    items_per_s: float
    num_held: int
    sent_us: int
    is_refused: bool = False
    told: RecordCoordinate | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Items that wait in an executor, by model, as sent at ``sent_us``."""

    items: Mapping[str, int]
    sent_us: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What a model's plan says: shares of versions in percent, largest batch, whether it goes to the slow lanes.

    ``latency_us``: what its SLO promises; 0: nothing.
    """

    shares: Mapping[str, int]
    max_batch_size: int
    is_slow: bool
    latency_us: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """``heard_us`` by ``role-instance``; ``loads`` by ``model/source-instance``; ``waiting`` by executor.

    ``times``: fixed and per-item microseconds by ``model/version``; ``plans`` by model. ``busy_us``: when a row was
    seen last, ``busy_slow_us``: one of a slow model. ``caps``: items of the largest batch that executors make, by
    ``model/version``; ``raised``: where memory bounds it, by model. ``variants``: the cheaper form of a version, by
    ``model/version``; ``in_use``: the one that the Scaler had put in use, by model. ``refused``: keys of memory whose
    vertical steps were refused or wait for people.
    """

    heard_us: Mapping[str, int] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    plans: Mapping[str, Planned] = field(default_factory=dict)
    busy_us: int = 0
    busy_slow_us: int = 0
    caps: Mapping[str, int] = field(default_factory=dict)
    raised: Mapping[str, int] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)
    in_use: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the pool. ``work``: executors that the rate keeps busy; ``backlog_s``: executor-seconds waiting.

    ``refused_per_s``: of the items per second those that edges refused for want of executors. ``ongoing``: items that
    wait or run. ``gaps``: sentences about what is not known; where there are any, it may be more than is said here.
    """

    rows_per_s: float = 0.0
    items_per_s: float = 0.0
    work: float = 0.0
    num_held: int = 0
    waiting: int = 0
    backlog_s: float = 0.0
    ongoing: float = 0.0
    gaps: tuple[str, ...] = ()
    refused_per_s: float = 0.0

    @property
    def is_zero(self) -> bool:
        """Whether no row comes or waits."""
        return not (self.rows_per_s or self.waiting or self.num_held)


def hear(picture: Picture, heartbeat: Heartbeat, now_us: int) -> Picture:
    """Note a sign of life of a Router or executor, and how long batches take in it."""
    name = f"{heartbeat.role}-{heartbeat.instance}"
    # A heartbeat read late says only that the process lived when it was sent.
    heard = max(picture.heard_us.get(name, 0), min(heartbeat.sent_us, now_us))
    times = {
        **picture.times,
        **{f"{each.model}/{each.version}": (each.fixed_us, each.per_item_us) for each in heartbeat.models},
    }
    return replace(picture, heard_us={**picture.heard_us, name: heard}, times=times)


def route(picture: Picture, load: RouterLoad, now_us: int, told: RecordCoordinate | None = None) -> Picture:
    """Note what a Router gives to lanes, or an edge refuses."""
    is_refused = load.source != "router"
    rows = load.refused_per_s if is_refused else load.rows_per_s
    newest = Load(rows, load.items_per_s or rows, load.num_held, min(load.sent_us, now_us), is_refused, told)
    loads = {**picture.loads, f"{load.model}/{load.source}-{load.instance}": newest}
    return _busy(replace(picture, loads=loads), [load.model] if rows or load.num_held else [], now_us)


def queue(picture: Picture, load: ExecutorLoad, now_us: int) -> Picture:
    """Note what waits in an executor; what a report does not name does not wait."""
    items: dict[str, int] = {}
    for version in load.versions:
        if num := sum(version.waiting_items):
            items[version.model] = items.get(version.model, 0) + num
    newest = Waiting(items, min(load.sent_us, now_us))
    caps = {**picture.caps, **{f"{each.model}/{each.version}": each.max_batch_size for each in load.versions}}
    picture = picture if caps == picture.caps else replace(picture, caps=caps)
    return _busy(replace(picture, waiting={**picture.waiting, load.executor: newest}), items, now_us)


def _busy(picture: Picture, models: Collection[str], now_us: int) -> Picture:
    """With rows of ``models`` seen now."""
    if not models:
        return picture
    is_slow = any(picture.plans[model].is_slow for model in models if model in picture.plans)
    return replace(picture, busy_us=now_us, busy_slow_us=now_us if is_slow else picture.busy_slow_us)


def plan_of(plan: Plan) -> Planned:
    """What counts of a plan."""
    shares = {share.version: share.weight_percent for share in plan.versions}
    latency_us = 0 if plan.slo is None else plan.slo.latency_ms * 1_000
    return Planned(shares, plan.max_batch_size, plan.lane == SLOW, latency_us)


def tells_nothing(picture: Picture, record: Any, params: PictureParams, *, slow: bool = False) -> bool:
    """Whether a heartbeat or a report changes nothing that counts: nearly all of them. ``slow``: slow ones count."""
    match record:
        case Heartbeat():
            is_slow = record.role == "executor" and record.instance >= params.first_slow
            return (is_slow and not slow) or record.role not in ("router", "executor")
        case ExecutorLoad():
            if _is_slow(record.executor, params) and not slow:
                return True
            before = picture.waiting.get(record.executor)
            waits = any(any(version.waiting_items) for version in record.versions)
            if before is None or not before.items:
                return not waits
            return waits and record.sent_us - before.sent_us < REPORT_US
    return False


def live_executors(picture: Picture, now_us: int, params: PictureParams, *, slow: bool = False) -> int:
    """How many executors of a pool were heard within ``silent_us``."""
    live = [name for name in _live(picture, now_us, params) if name.startswith("executor-")]
    return sum(_is_slow(name, params) == slow for name in live)


def live_routers(picture: Picture, now_us: int, params: PictureParams) -> int:
    """How many Routers were heard within ``silent_us``."""
    return sum(name.startswith("router-") for name in _live(picture, now_us, params))


def forget(picture: Picture, now_us: int, params: PictureParams) -> Picture:
    """Without what was said ``forget_us`` ago: a sender that still had something to say would have said it since."""
    since = now_us - params.forget_us
    heard = {name: at for name, at in picture.heard_us.items() if at > since}
    loads = {key: load for key, load in picture.loads.items() if load.sent_us > since}
    waiting = {name: each for name, each in picture.waiting.items() if each.sent_us > since}
    if (len(heard), len(loads), len(waiting)) == (len(picture.heard_us), len(picture.loads), len(picture.waiting)):
        return picture
    return replace(picture, heard_us=heard, loads=loads, waiting=waiting)


def demand_of(picture: Picture, now_us: int, params: PictureParams, *, slow: bool = False) -> Demand:
    """What is asked of a pool now, in the order of models' names."""
    rows = items = work = backlog = ongoing = refused = 0.0
    held = num_waiting = 0
    gaps: list[str] = []
    for key, load in sorted(picture.loads.items()):
        model = key.rpartition("/")[0]
        if goes_slow(picture, model, params) != slow:
            continue
        if now_us - load.sent_us > params.silent_us and (load.rows_per_s or load.num_held):
            gaps.append(f"the load of {model} is {(now_us - load.sent_us) // 1_000_000} s old")
        time_us, batch_us = _times(picture, model)
        rows, items, held = rows + load.rows_per_s, items + load.items_per_s, held + load.num_held
        work += work_of(load.rows_per_s, load.items_per_s, time_us)
        if load.is_refused:
            refused += load.items_per_s
        else:
            ongoing += load.items_per_s * batch_us / 1e6
    for name, waiting in sorted(picture.waiting.items()):
        mine = {model: num for model, num in waiting.items.items() if goes_slow(picture, model, params) == slow}
        if mine and now_us - waiting.sent_us > params.silent_us:
            gaps.append(f"what waits in {name} was said {(now_us - waiting.sent_us) // 1_000_000} s ago")
        for model, num in sorted(mine.items()):
            num_waiting += num
            backlog += work_of(num, num, _times(picture, model)[0])
    return Demand(
        round(rows, 3), round(items, 3), round(work, 6), held, num_waiting, round(backlog, 6),
        round(ongoing + num_waiting, 3), tuple(gaps), round(refused, 3),
    )  # fmt: skip


def work_by_model(picture: Picture, params: PictureParams, *, slow: bool = False) -> dict[str, float]:
    """Executors that the rate of each model of a pool keeps busy."""
    work: dict[str, float] = {}
    for key, load in sorted(picture.loads.items()):
        model = key.rpartition("/")[0]
        if goes_slow(picture, model, params) == slow:
            mine = work_of(load.rows_per_s, load.items_per_s, _times(picture, model)[0])
            work[model] = work.get(model, 0.0) + mine
    return work


def _live(picture: Picture, now_us: int, params: PictureParams) -> list[str]:
    return [name for name, heard in picture.heard_us.items() if now_us - heard < params.silent_us]


def _is_slow(executor: str, params: PictureParams) -> bool:
    """Whether an executor is one of the slow lanes, by its number."""
    number = executor.rpartition("-")[2]
    return number.isdecimal() and int(number) >= params.first_slow


def goes_slow(picture: Picture, model: str, params: PictureParams) -> bool:
    """Whether a model goes to the slow lanes."""
    planned = picture.plans.get(model)
    return params.has_slow and planned is not None and planned.is_slow


def _times(picture: Picture, model: str) -> tuple[float, float]:
    """Microseconds that an item takes in a full batch, and a full batch, over the planned versions; 0 where unknown."""
    planned = picture.plans.get(model)
    if planned is None:
        return 0.0, 0.0
    time_us = batch_us = 0.0
    for version, percent in sorted(planned.shares.items()):
        fixed, per_item = picture.times.get(f"{model}/{version}", (0.0, 0.0))
        time_us += percent / 100 * item_us(fixed, per_item, planned.max_batch_size)
        batch_us += percent / 100 * (fixed + per_item * planned.max_batch_size)
    return time_us, batch_us
