"""Whether the rows of versions are still those of their references: alerts ``drift`` and ``data_quality``. Pure.

Executors count sampled rows by the bins of the references in memory (``control.statistics``), Routers those that the
cache answered; the counts of the last minute, of all of them, are compared (``agents.drift_case``) when some come in.
Per version one alert of each kind stands at a time. It is resolved when the rows are well below what raised it, when
the version gets no rows and is not the active one, when it had none for long, or when its reference is another. Without
rows nothing is judged: no news is no good news.

State: the references in memory, counts per slot of a sixth of the window, which alerts stand, active versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from agents.drift_case import Case, DriftParams, Evidence, compared
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.reference import Reference
from schemas.statistics import MeasureCounts, VersionStatistics
from schemas.telemetry import Alert
from streams.agent import NO_EFFECTS, Effects, Event, Publish
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion
from streams.references import REFERENCES, reference_id
from streams.strata import kept, rounded, thinned

SLOTS: Final = 6
JUDGED: Final = 12
"""How often at most a version is judged within a window, however many executors tell of it: it costs a millisecond."""
ACTIVE: Final = "active/"
ROUTER: Final = "router-"
"""Who tells of rows that the cache answered."""
Kind = Literal["drift", "data_quality"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows of a version in one slot of time, of all executors; ``measures`` in the order of the reference.

    ``cached``: the cache answered them, and Routers told of them.
    """

    start_us: int
    num_rows: int
    num_sampled: int
    measures: tuple[MeasureCounts, ...]
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """A version with its reference. ``drift_us`` and ``quality_us``: when the alert was raised that stands, else 0.

    ``heard_us``: when its newest rows ran; ``cause``: the record that told of them, else of the reference;
    ``judged_us``: when its rows were judged last.
    """

    reference: Reference
    identity: str
    cause: RecordCoordinate
    heard_us: int = 0
    slots: tuple[Slot, ...] = ()
    drift_us: int = 0
    quality_us: int = 0
    judged_us: int = 0

    @property
    def total(self) -> Slot:
        """All slots together, those that were sampled more densely thinned."""
        ran = [slot for slot in self.slots if not slot.cached]
        cached = [slot for slot in self.slots if slot.cached]
        if not (ran and cached):
            return _all(self.slots)
        left, right = _all(ran), _all(cached)
        thin = _thinned(right, left)
        return _sum(_thinned(left, right), thin.num_rows, thin.num_sampled, thin.measures)


@dataclass(frozen=True, slots=True)
class Drifts:
    """``versions`` by ``model/version``, those with a reference; ``active`` versions by model."""

    versions: Mapping[str, Watched] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)


def learn(state: Drifts, change: MemoryEvent, event: Event, params: DriftParams) -> tuple[Drifts, Effects]:
    """Follow references and active versions in memory. With another reference counting begins anew."""
    try:
        if change.key.startswith(ACTIVE) and change.body is not None:
            active = from_json(ActiveVersion, change.body, newer=True)
            return replace(state, active={**state.active, active.model: active.version}), NO_EFFECTS
        if change.key.startswith(REFERENCES):
            reference = None if change.body is None else from_json(Reference, change.body, newer=True)
            return _referred(state, change, reference, event, params)
    except PoisonRecordError:
        return state, NO_EFFECTS  # the Orchestrator writes no such body; whatever it is, nothing is compared with it
    return state, NO_EFFECTS


def _referred(
    state: Drifts, change: MemoryEvent, reference: Reference | None, event: Event, params: DriftParams
) -> tuple[Drifts, Effects]:
    name = change.key.removeprefix(REFERENCES)
    versions = {each: watched for each, watched in state.versions.items() if each != name}
    if reference is not None:
        versions[name] = Watched(reference, reference_id(change.body or ""), event.coordinate)
    effects: tuple[Publish, ...] = ()
    known = state.versions.get(name)
    if known is not None:
        what = "has no reference any more" if reference is None else "has another reference"
        known = replace(known, cause=event.coordinate)
        effects = _ended(known, what, event.now_us, params)[1]
    return replace(state, versions=versions), effects


def hear(state: Drifts, told: VersionStatistics, event: Event, params: DriftParams) -> tuple[Drifts, Effects]:
    """Count what an executor tells of a version, forget what is too old, and judge."""
    name = f"{told.model}/{told.version}"
    known = state.versions.get(name)
    if known is None or known.identity != told.reference or not _fits(known.reference, told.measures):
        return state, NO_EFFECTS
    end_us = min(event.now_us, told.window_start_us + told.window_us)
    slot_us = max(params.window_us // SLOTS, 1)
    oldest_us = event.now_us - params.window_us
    slots = tuple(slot for slot in known.slots if slot.start_us >= oldest_us)
    start_us = end_us - end_us % slot_us
    if start_us >= oldest_us:
        cached = told.executor.startswith(ROUTER)
        slots = _with(slots, Slot(start_us, told.num_rows, told.num_sampled, told.measures, cached))
    watched = replace(known, slots=slots, heard_us=max(known.heard_us, end_us), cause=event.coordinate)
    effects: Effects = NO_EFFECTS
    if event.now_us - known.judged_us >= params.window_us // JUDGED:
        watched, effects = _judged(replace(watched, judged_us=event.now_us), event.now_us, params)
    return replace(state, versions={**state.versions, name: watched}), effects


def judge(state: Drifts, now_us: int, params: DriftParams) -> tuple[Drifts, Effects]:
    """Resolve alerts of versions without rows; where there is none, the state stays the same object."""
    effects: list[Publish] = []
    changed: dict[str, Watched] = {}
    for name, watched in sorted(state.versions.items()):
        if not (watched.drift_us or watched.quality_us):
            continue
        idle_us = now_us - watched.heard_us
        is_active = state.active.get(watched.reference.model) == watched.reference.version
        if idle_us >= params.forget_us or (not is_active and idle_us >= params.window_us):
            changed[name], ended = _ended(watched, f"got no row for {idle_us // 1_000_000} s", now_us, params)
            effects += ended
    return (replace(state, versions={**state.versions, **changed}) if changed else state), tuple(effects)


def _judged(watched: Watched, now_us: int, params: DriftParams) -> tuple[Watched, Effects]:
    """Raise and resolve what is due by the rows of the window."""
    total = watched.total if watched.slots else None
    if total is None or total.num_sampled < params.min_rows:
        return watched, NO_EFFECTS
    effects: list[Publish] = []
    case = compared(watched.reference, total.measures, params)
    name = f"{watched.reference.model} {watched.reference.version}"
    if not watched.drift_us and case.is_drift:
        watched = replace(watched, drift_us=now_us)
        effects.append(_alert(watched, "drift", case, _complaint(name, case), now_us, resolved=False))
    elif watched.drift_us and case.is_settled:
        said = f"The rows of {name} are those of its reference again."
        effects.append(_alert(watched, "drift", case, said, now_us, resolved=True))
        watched = replace(watched, drift_us=0)
    if not watched.quality_us and case.bad:
        watched = replace(watched, quality_us=now_us)
        effects.append(_alert(watched, "data_quality", case, _bad_data(name, case), now_us, resolved=False))
    elif watched.quality_us and case.is_sound:
        said = f"The data of {name} is sound again."
        effects.append(_alert(watched, "data_quality", case, said, now_us, resolved=True))
        watched = replace(watched, quality_us=0)
    return watched, tuple(effects)


def _complaint(name: str, case: Case) -> str:
    worst = case.drifting[0]
    for each in case.drifting:
        worst = each if each.psi > worst.psi else worst
    what = f"{len(case.drifting)} of {len(case.measures)} measures of {name} are not those of its reference"
    return f"{what}: the PSI of {worst.name} is {worst.psi:g}."


def _bad_data(name: str, case: Case) -> str:
    first = case.bad[0]
    values = f"{first.missing_percent:g} % missing and {first.outside_percent:g} % out of range in {first.name}"
    return f"{len(case.bad)} of {len(case.measures)} measures of {name} have bad data: {values}."


def _ended(watched: Watched, what: str, now_us: int, params: DriftParams) -> tuple[Watched, tuple[Publish, ...]]:
    """A version without its alerts, and their end."""
    empty = tuple(MeasureCounts((0,) * len(each.counts), 0, 0, 0, 0) for each in watched.reference.measures)
    case = compared(watched.reference, watched.total.measures if watched.slots else empty, params)
    said = f"{watched.reference.model} {watched.reference.version} {what}."
    effects = []
    if watched.drift_us:
        effects.append(_alert(watched, "drift", case, said, now_us, resolved=True))
    if watched.quality_us:
        effects.append(_alert(watched, "data_quality", case, said, now_us, resolved=True))
    return replace(watched, drift_us=0, quality_us=0), tuple(effects)


def _alert(watched: Watched, kind: Kind, case: Case, message: str, now_us: int, *, resolved: bool) -> Publish:
    reference, params = watched.reference, case.params
    total = watched.total if watched.slots else Slot(0, 0, 0, ())
    evidence = Evidence(
        reference.model, reference.version, watched.identity, reference.num_rows, params.window_us // 1_000_000,
        total.num_rows, total.num_sampled, params.psi, len(case.measures), len(case.drifting), case.worst,
    )  # fmt: skip
    raised_us = watched.drift_us if kind == "drift" else watched.quality_us
    alert = Alert(
        alert_id=f"{kind}/{reference.model}/{reference.version}/{raised_us}",
        kind=kind,
        subject=reference.model,
        severity="warning",
        message=message,
        evidence=to_json(evidence),
        resolved=resolved,
        time_us=now_us,
        causes=(watched.cause,),
        model=reference.model,
        version=reference.version,
    )
    return Publish("control.alerts", reference.model.encode(), alert)


def _fits(reference: Reference, measures: tuple[MeasureCounts, ...]) -> bool:
    """Whether counts are counts, of the reference's measures and bins: anybody may write to the topic."""
    wanted = [len(measure.counts) for measure in reference.measures]
    return wanted == [len(each.bins) for each in measures] and all(each.is_sound for each in measures)


def _with(slots: tuple[Slot, ...], told: Slot) -> tuple[Slot, ...]:
    """Oldest first; one executor may tell of its window later than another."""
    for at, slot in enumerate(slots):
        if (slot.start_us, slot.cached) == (told.start_us, told.cached):
            both = _sum(slot, told.num_rows, told.num_sampled, told.measures)
            return (*slots[:at], both, *slots[at + 1 :])
    return tuple(sorted((*slots, told), key=lambda slot: slot.start_us))


def _sum(slot: Slot, num_rows: int, num_sampled: int, measures: tuple[MeasureCounts, ...]) -> Slot:
    both = tuple(
        MeasureCounts(
            tuple(a + b for a, b in zip(left.bins, right.bins, strict=True)), left.num_missing + right.num_missing,
            left.num_below + right.num_below, left.num_above + right.num_above, left.shift_milli + right.shift_milli,
        )
        for left, right in zip(slot.measures, measures, strict=True)
    )  # fmt: skip
    return Slot(slot.start_us, slot.num_rows + num_rows, slot.num_sampled + num_sampled, both, slot.cached)


def _all(slots: Sequence[Slot]) -> Slot:
    """Slots together, one at least."""
    total = slots[0]
    for slot in slots[1:]:
        total = _sum(total, slot.num_rows, slot.num_sampled, slot.measures)
    return total


def _thinned(slot: Slot, other: Slot) -> Slot:
    """The slot, no more densely sampled than the other."""
    part, whole = kept(slot.num_rows, slot.num_sampled, other.num_rows, other.num_sampled)
    measures = tuple(thinned(counts, part, whole) for counts in slot.measures)
    return replace(slot, num_sampled=rounded(slot.num_sampled, part, whole), measures=measures)
