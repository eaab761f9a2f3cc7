"""Counts of executors beside a reference."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from infra.drift_check import ENOUGH_ROWS, StatisticsCounts, reference_of
from schemas.figures import DriftFigures, FeatureDrift, StatisticsFigures
from schemas.memory import MemoryEntry
from schemas.reference import Measure, Reference, SampledTensor
from schemas.statistics import MeasureCounts, VersionStatistics
from streams.canonical import to_json
from streams.memory_view import MemoryView
from streams.references import reference_id

T = 1_700_000_000_000_000
MEASURES = (
    Measure("image/0", "element", 0, (1.0, 2.0), (50, 25, 25), 0, 0.0, 3.0, 1.5, 1.0),
    Measure("image mean", "mean", 0, (1.0,), (60, 40), 0, 0.0, 3.0, 1.5, 1.0),
)
REFERENCE = Reference("digits", "v1.0.0", 100, (SampledTensor("image", False, 4, 1, MEASURES),))
NAME = reference_id(to_json(REFERENCE))


def window(since_us: int = T, rows: int = 40) -> VersionStatistics:
    measures = (MeasureCounts((0, 0, rows), 1, 0, 2, 5), MeasureCounts((rows // 2, rows // 2), 0, 3, 0, 5))
    return VersionStatistics("executor-0", "digits", "v1.0.0", NAME, since_us, 5_000_000, rows, rows, measures)


def test_a_reference_is_found_with_the_name_that_windows_have() -> None:
    entry = MemoryEntry("reference/digits/v1.0.0", 1, 5, to_json(REFERENCE), T)
    view = MemoryView(5, entries=MappingProxyType({entry.key: entry}))
    assert reference_of(view, "digits", "v1.0.0") == (REFERENCE, NAME)
    assert reference_of(view, "digits", "v2.0.0") is None


def test_windows_are_summed_and_compared() -> None:
    counts = StatisticsCounts(REFERENCE, NAME, T)
    assert counts.drift() == DriftFigures(())
    assert not counts.add(window())
    assert not counts.add(window(T + 1))
    figures = counts.drift()
    assert figures == DriftFigures((FeatureDrift("image/0", 0.75, 80, 100), FeatureDrift("image mean", 0.1, 80, 100)))
    assert counts.statistics(200, 3) == StatisticsFigures(200, 3, 160, 2, 10)
    assert counts.add(window(rows=ENOUGH_ROWS))


def test_rows_that_the_cache_answered_weigh_as_much_as_there_are_of_them() -> None:
    counts = StatisticsCounts(REFERENCE, NAME, T)
    ran = replace(
        window(rows=100), measures=(MeasureCounts((100, 0, 0), 0, 0, 0, 0), MeasureCounts((100, 0), 0, 0, 0, 0))
    )
    cached = replace(window(rows=100), executor="router-0", num_rows=900)
    assert not counts.add(ran)
    assert not counts.add(cached)
    first, second = counts.drift().features
    assert (first.num_rows, first.ks) == (111, 0.6509)  # 11 of the 100 that ran beside 100 of the 900 cached
    assert (second.num_rows, second.ks) == (111, 0.0505)


def test_what_was_counted_by_something_else_is_left_out() -> None:
    counts = StatisticsCounts(REFERENCE, NAME, T)
    good = window()
    for other in (
        window(T - 1),
        replace(good, model="others"),
        replace(good, version="v2.0.0"),
        replace(good, reference="another"),
        replace(good, measures=good.measures[:1]),
        None,
    ):
        assert not counts.add(other)
    assert counts.num_sampled == 0
