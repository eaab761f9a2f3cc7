"""Whether models keep what their serving policies promise: burn rates over two windows, fast and slow. Pure.

The rule is the multiwindow, multi-burn-rate alert of Google's SRE workbook, chapter 5 ("Alerting on SLOs"). The burn
rate is the share of bad rows over the share that the SLO allows: 1 spends the error budget exactly within its period.
An alert is raised when the rate reaches a threshold in a long window, so that it matters, and in a short one, so that
it is still going on. The workbook's budget is that of 30 days; ours is a day's, with the same thresholds and windows a
thirtieth as long: ``fast`` has spent 2 % of it in 2 min (14.4 times too fast), ``slow`` 5 % in 12 min (6 times).

A model has up to two objectives (``schemas.serving.Slo``), each judged over all its versions by what the Validators
tell. One alert ``slo_burn`` per model, objective and speed; the slow one is not raised while the fast one stands. It is
resolved when the rate is below the threshold in both windows, or when another SLO is set. Without a row in the short
window it stays as it is.

State: per model with an SLO, sums per slot and version over the longest window, and which alerts stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agents.slo_counts import Objective, Share, Versions, added, objectives, shares, slot_of, total
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.serving import ServingPolicy, Slo
from schemas.telemetry import Alert, Telemetry
from streams.agent import NO_EFFECTS, Effects, Event, Publish
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError

ANSWERED: Final = "validator"
SERVING: Final = "serving/"


@dataclass(frozen=True, slots=True)
class Speed:
    """Two windows in microseconds, and the burn rate in percent that alerts where both have it."""

    name: str
    short_us: int
    long_us: int
    burn_percent: int
    severity: str


@dataclass(frozen=True, slots=True)
class SloParams:
    """``speeds``: fastest first. ``slot_us``: what windows are counted in; they are up to one slot longer.

    ``min_rows``, ``min_bad``: with fewer in the long window no alert is raised.
    """

    speeds: tuple[Speed, ...] = (
        Speed("fast", 10_000_000, 120_000_000, 1_440, "critical"),
        Speed("slow", 60_000_000, 720_000_000, 600, "warning"),
    )
    slot_us: int = 10_000_000
    min_rows: int = 50
    min_bad: int = 5

    def first_us(self, now_us: int, span_us: int) -> int:
        """Where the first slot begins that reaches into a window of ``span_us``."""
        since_us = now_us - span_us
        return since_us - since_us % self.slot_us


@dataclass(frozen=True, slots=True)
class Judged:
    """A model with its SLO. ``raised``: when the alert of ``<objective>/<speed>`` was raised that stands."""

    slo: Slo
    cause: RecordCoordinate
    versions: Versions = field(default_factory=dict)
    raised: Mapping[str, int] = field(default_factory=dict)


Slos = Mapping[str, Judged]
"""By model, those that have an SLO."""


@dataclass(frozen=True, slots=True)
class Burn:
    """Rows of a window, those that were bad, and how many times too fast they spend the budget."""

    seconds: int
    num_rows: int
    num_bad: int
    burn: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an alert is raised or resolved; ``versions`` are those of the long window."""

    objective: Objective
    speed: str
    slo: Slo
    threshold: float
    short: Burn
    long: Burn
    versions: tuple[Share, ...]


def learn(state: Slos, change: MemoryEvent, event: Event, params: SloParams) -> tuple[Slos, Effects]:
    """Follow the serving policies in memory. Another SLO begins anew: late rows were counted by the old one."""
    if not change.key.startswith(SERVING):
        return state, NO_EFFECTS
    model = change.key.removeprefix(SERVING)
    try:
        slo = None if change.body is None else from_json(ServingPolicy, change.body, newer=True).slo
    except PoisonRecordError:
        return state, NO_EFFECTS  # the Orchestrator writes no such body; whatever it is, it changes no promise
    known = state.get(model)
    if slo == (None if known is None else known.slo):
        return state, NO_EFFECTS
    after = {name: each for name, each in state.items() if name != model}
    if slo is not None:
        after[model] = Judged(slo, event.coordinate)
    return after, () if known is None else _ended(model, known, slo, event, params)


def hear(state: Slos, window: Telemetry, event: Event, params: SloParams) -> Slos:
    """Count what a Validator tells of models that have an SLO, and forget what is too old."""
    if window.stage != ANSWERED or not state:
        return state
    end_us = min(event.now_us, window.window_start_us + window.window_us)
    start_us = end_us - end_us % params.slot_us
    oldest_us = params.first_us(event.now_us, max(speed.long_us for speed in params.speeds))
    for part in window.models:
        known = state.get(part.model)
        slot = None if known is None else slot_of(part, known.slo, start_us)
        if known is not None and slot is not None:
            versions = added(known.versions, part.version, slot, oldest_us)
            state = {**state, part.model: replace(known, versions=versions, cause=event.coordinate)}
    return state


def judge(state: Slos, now_us: int, params: SloParams) -> tuple[Slos, Effects]:
    """Raise and resolve what is due; where nothing is, the state stays the same object."""
    effects: list[Publish] = []
    changed: dict[str, Judged] = {}
    for model, judged in sorted(state.items()):
        raised = dict(judged.raised)
        for objective, allowed_ppm in objectives(judged.slo):
            for speed in params.speeds:
                case = _Case(model, judged, objective, allowed_ppm, speed, now_us, params)
                if case.key in raised and case.is_over():
                    effects.append(case.alert(raised.pop(case.key), f"{model} keeps its SLO again", resolved=True))
                elif case.key not in raised and not case.is_hushed(raised) and case.is_due():
                    raised[case.key] = now_us
                    effects.append(case.alert(now_us, case.complaint(), resolved=False))
        if raised != judged.raised:
            changed[model] = replace(judged, raised=raised)
    return ({**state, **changed} if changed else state), tuple(effects)


def _ended(model: str, judged: Judged, slo: Slo | None, event: Event, params: SloParams) -> Effects:
    """The alerts of an SLO that is no more."""
    what = "has no SLO any more" if slo is None else f"has another SLO: {slo}"
    cases = [
        _Case(model, judged, objective, allowed_ppm, speed, event.now_us, params)
        for objective, allowed_ppm in objectives(judged.slo)
        for speed in params.speeds
    ]
    return tuple(
        case.alert(judged.raised[case.key], f"{model} {what}", resolved=True)
        for case in cases
        if case.key in judged.raised
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One objective of a model at one speed, now."""

    model: str
    judged: Judged
    objective: Objective
    allowed_ppm: int
    speed: Speed
    now_us: int
    params: SloParams

    @property
    def key(self) -> str:
        return f"{self.objective}/{self.speed.name}"

    def is_hushed(self, raised: Mapping[str, int]) -> bool:
        """Whether the alert of a faster speed stands."""
        faster = self.params.speeds[: self.params.speeds.index(self.speed)]
        return any(f"{self.objective}/{each.name}" in raised for each in faster)

    def is_due(self) -> bool:
        """Whether both windows burn, by enough rows."""
        if not self._burns(self.speed.short_us):
            return False
        long = total(self._shares(self.speed.long_us))
        is_enough = long.num_rows >= self.params.min_rows and long.num_bad >= self.params.min_bad
        return is_enough and self._burns(self.speed.long_us)

    def is_over(self) -> bool:
        """Whether neither window burns, by rows of now."""
        if not self._shares(self.speed.short_us):
            return False
        return not self._burns(self.speed.short_us) and not self._burns(self.speed.long_us)

    def complaint(self) -> str:
        """What is wrong, as a sentence without a full stop."""
        count, slo = total(self._shares(self.speed.long_us)), self.judged.slo
        late = f"OK answers of {self.model} took longer than {slo.latency_ms} ms"
        what = late if self.objective == "latency" else f"rows of {self.model} ended as ERROR or EXPIRED"
        within = (
            f"within {self.speed.long_us // 1_000_000} s, {count.burn(self.allowed_ppm):g} times what its SLO allows"
        )
        return f"{count.num_bad} of {count.num_rows} {what} {within}"

    def alert(self, raised_us: int, message: str, *, resolved: bool) -> Publish:
        """The alert that was raised at ``raised_us``."""
        alert = Alert(
            alert_id=f"slo_burn/{self.model}/{self.key}/{raised_us}",
            kind="slo_burn",
            subject=self.model,
            severity=self.speed.severity,
            message=f"{message}.",
            evidence=to_json(self._evidence()),
            resolved=resolved,
            time_us=self.now_us,
            causes=(self.judged.cause,),
        )
        return Publish("control.alerts", self.model.encode(), alert)

    def _evidence(self) -> Evidence:
        threshold, short, long = self.speed.burn_percent / 100, self.speed.short_us, self.speed.long_us
        at = self.objective, self.speed.name, self.judged.slo, threshold
        return Evidence(*at, self._burn(short), self._burn(long), self._shares(long))

    def _shares(self, span_us: int) -> tuple[Share, ...]:
        return shares(self.judged.versions, self.objective, self.params.first_us(self.now_us, span_us))

    def _burns(self, span_us: int) -> bool:
        return total(self._shares(span_us)).burns(self.allowed_ppm, self.speed.burn_percent)

    def _burn(self, span_us: int) -> Burn:
        count = total(self._shares(span_us))
        return Burn(span_us // 1_000_000, count.num_rows, count.num_bad, count.burn(self.allowed_ppm))
