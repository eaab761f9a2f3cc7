"""Slow trends of the rows of versions that have a reference: what a minute does not show. Pure.

Where drift (``agents.drift``) asks whether the last minute's rows are others, a trend is what hours come to: per
measure the shift of the mean, the share of missing values and that of values out of range, each an exponentially
weighted mean with the time constant ``tau_us`` that begins at 0, as in the reference. One signal of kind ``trend`` per
version and figure says that measures have reached a level, again each time twice as many have, and that none is at half
of it any more. All arithmetic is of whole numbers: millionths, floored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from schemas.memory import MemoryEvent
from schemas.reference import Reference
from schemas.review import ContextSignal
from schemas.statistics import MeasureCounts, VersionStatistics
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError
from streams.references import REFERENCES, reference_id

KIND: Final = "trend"
SHOWN: Final = 8
MILLION: Final = 1_000_000
Figure = Literal["mean_shift", "missing", "out_of_range"]
FIGURES: Final[tuple[Figure, ...]] = ("mean_shift", "missing", "out_of_range")


@dataclass(frozen=True, slots=True)
class TrendParams:
    """Time constant and slot in microseconds; a slot ends when it is so long and has ``min_rows`` sampled rows.

    Levels, in millionths: ``mean_shift`` of a deviation; ``missing`` (more than in the reference) and ``out_of_range``
    of the values.
    """

    tau_us: int = 3_600_000_000
    slot_us: int = 60_000_000
    min_rows: int = 30
    mean_shift: int = 500_000
    missing: int = 20_000
    out_of_range: int = 50_000

    def level(self, figure: Figure) -> int:
        """What a figure has to reach."""
        return {"mean_shift": self.mean_shift, "missing": self.missing, "out_of_range": self.out_of_range}[figure]


@dataclass(frozen=True, slots=True)
class Sums:
    """Sampled values of a measure in the slot: those there, missing, out of range; thousandths of deviations."""

    present: int = 0
    missing: int = 0
    outside: int = 0
    shift_milli: int = 0

    def plus(self, counts: MeasureCounts) -> Sums:
        """With an executor's counts."""
        outside = counts.num_below + counts.num_above
        return Sums(
            self.present + sum(counts.bins), self.missing + counts.num_missing, self.outside + outside,
            self.shift_milli + counts.shift_milli,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slow:
    """A measure with its figures of hours, in millionths; ``missing_before``: share in the reference."""

    name: str
    missing_before: int
    mean_shift: int = 0
    missing: int = 0
    out_of_range: int = 0

    def moved(self, sums: Sums, span_us: int, params: TrendParams) -> Slow:
        """After a slot of ``span_us``."""
        total = sums.present + sums.missing
        if not total:
            return self
        share = sums.missing * MILLION // total - self.missing_before
        shift = sums.shift_milli * 1_000 // sums.present if sums.present else self.mean_shift
        outside = sums.outside * MILLION // sums.present if sums.present else self.out_of_range

        def nearer(value: int, to: int) -> int:
            return value + (to - value) * span_us // (params.tau_us + span_us)

        return replace(
            self, mean_shift=nearer(self.mean_shift, shift), missing=nearer(self.missing, share),
            out_of_range=nearer(self.out_of_range, outside),
        )  # fmt: skip

    def figure(self, figure: Figure) -> int:
        """Its size: a mean may shift either way."""
        return {
            "mean_shift": abs(self.mean_shift), "missing": self.missing, "out_of_range": self.out_of_range,
        }[figure]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trend:
    """A version's measures, and the slot that is being counted (``start_us`` 0: none yet).

    ``told``: by figure, how many measures were at the level when it was last said.
    """

    identity: str
    measures: tuple[Slow, ...]
    sums: tuple[Sums, ...]
    start_us: int = 0
    num_sampled: int = 0
    told: Mapping[str, int] = field(default_factory=dict)


Trends = Mapping[str, Trend]
"""By ``model/version``, of those that have a reference."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A measure and its figure in millionths."""

    name: str
    millionths: int


@dataclass(frozen=True, slots=True)
class Expression:
    """What a signal says: ``num_measures`` have reached ``level`` (millionths), ``worst`` first; 0: none any more."""

    model: str
    version: str
    figure: Figure
    level: int
    num_measures: int
    worst: tuple[Shown, ...]


def learn(state: Trends, change: MemoryEvent) -> Trends:
    """Follow the references in memory; with another one all begins anew."""
    if not change.key.startswith(REFERENCES):
        return state
    name = change.key.removeprefix(REFERENCES)
    after = {each: trend for each, trend in state.items() if each != name}
    if change.body is None:
        return after
    try:
        reference = from_json(Reference, change.body, newer=True)
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body
    measures = tuple(
        Slow(measure.name, measure.num_missing * MILLION // max(reference.num_rows, 1))
        for measure in reference.measures
    )
    return {**after, name: Trend(reference_id(change.body), measures, (Sums(),) * len(measures))}


def hear(
    state: Trends, told: VersionStatistics, now_us: int, params: TrendParams
) -> tuple[Trends, tuple[ContextSignal, ...]]:
    """Count what an executor tells of a version; at the end of a slot, say which levels were crossed."""
    name = f"{told.model}/{told.version}"
    trend = state.get(name)
    if trend is None or trend.identity != told.reference or len(told.measures) != len(trend.measures):
        return state, ()
    if not all(counts.is_sound for counts in told.measures):
        return state, ()
    end_us = min(now_us, told.window_start_us + told.window_us)
    sums = tuple(each.plus(counts) for each, counts in zip(trend.sums, told.measures, strict=True))
    start_us = trend.start_us or end_us - told.window_us
    trend = replace(trend, sums=sums, start_us=start_us, num_sampled=trend.num_sampled + told.num_sampled)
    signals: tuple[ContextSignal, ...] = ()
    if end_us - start_us >= params.slot_us and trend.num_sampled >= params.min_rows:
        span_us = min(end_us - start_us, params.tau_us)
        measures = tuple(
            slow.moved(each, span_us, params) for slow, each in zip(trend.measures, trend.sums, strict=True)
        )
        empty = (Sums(),) * len(measures)
        trend = replace(trend, measures=measures, sums=empty, start_us=end_us, num_sampled=0)
        trend, signals = _crossed(trend, told.model, told.version, now_us, params)
    return {**state, name: trend}, signals


def _crossed(
    trend: Trend, model: str, version: str, now_us: int, params: TrendParams
) -> tuple[Trend, tuple[ContextSignal, ...]]:
    signals: list[ContextSignal] = []
    for figure in FIGURES:
        level, before = params.level(figure), trend.told.get(figure, 0)
        over = [each for each in trend.measures if each.figure(figure) >= level]
        near = any(each.figure(figure) * 2 >= level for each in trend.measures)
        if over and len(over) >= 2 * before:
            count = len(over)
        elif before and not near:
            count = 0
        else:
            continue
        trend = replace(trend, told={**trend.told, figure: count})
        signals.append(_signal(over, (model, version, figure, level), now_us))
    return trend, tuple(signals)


def _signal(over: list[Slow], what: tuple[str, str, Figure, int], now_us: int) -> ContextSignal:
    model, version, figure, level = what
    worst = sorted(over, key=lambda each: (-each.figure(figure), each.name))[:SHOWN]
    shown = tuple(Shown(each.name, _signed(each, figure)) for each in worst)
    return ContextSignal(
        signal_id=f"trend/{model}/{version}/{figure}",
        kind=KIND,
        subject=f"model/{model}",
        expression=to_json(Expression(model, version, figure, level, len(over), shown)),
        source="control.statistics",
        time_us=now_us,
    )


def _signed(each: Slow, figure: Figure) -> int:
    return each.mean_shift if figure == "mean_shift" else each.figure(figure)
