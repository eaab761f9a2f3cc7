"""One version's rows of a time beside its reference: PSI, KS, mean shift and data quality per measure. Pure.

A measure drifts where its PSI reaches ``psi`` and what chance alone would make of so few rows
(``streams.histogram.psi_by_chance``, which allows for all measures being looked at). Inputs drift where
``share_percent`` of their measures do, outputs where one does. Rows that depend on each other (one client's, one
camera's) differ more than chance says: therefore the PSI has to be large, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.reference import Measure, Reference
from schemas.statistics import MeasureCounts
from streams.histogram import ks, ks_p, psi, psi_by_chance

SHOWN = 8
"""Measures that evidence names, worst first."""


@dataclass(frozen=True, slots=True)
class DriftParams:
    """When rows count as others. ``window_us``: how far back; with fewer than ``min_rows`` sampled nothing is judged.

    ``psi`` and ``notice``: what is called drift, and what it must fall below again for outputs. ``share_percent``: of
    input measures that drift; resolved below half of it. ``missing_percent``: more NaN and infinity than in the
    reference; ``outside_percent``: values out of its range; each resolved below half of it. ``forget_us``: without a
    row for so long an alert is over.
    """

    window_us: int = 60_000_000
    min_rows: int = 200
    psi: float = 0.2
    notice: float = 0.1
    share_percent: int = 10
    missing_percent: int = 5
    outside_percent: int = 10
    forget_us: int = 600_000_000


@dataclass(frozen=True, slots=True)
class MeasureDrift:
    """One measure beside the reference.

    ``by_chance``: the PSI that chance hardly exceeds. ``ks_p``: chance of the KS distance. ``mean_shift``: in
    deviations of the reference. ``missing_percent``: NaN and infinite values; ``outside_percent``: out of its range.
    """

    name: str
    is_output: bool
    num_rows: int
    psi: float
    by_chance: float
    ks: float
    ks_p: float
    mean_shift: float
    missing_percent: float
    outside_percent: float

    def reaches(self, threshold: float) -> bool:
        """Whether the PSI is that large, and not by chance."""
        return self.psi >= threshold and self.psi >= self.by_chance


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why drift or bad data is called or over: ``num_drifting`` of ``num_measures``, and the ``worst`` of them.

    ``reference``: first 16 hex digits of the SHA-256 of the reference that ``num_reference_rows`` rows made.
    ``num_sampled`` of ``num_rows`` rows of the last ``seconds`` were looked at.
    """

    model: str
    version: str
    reference: str
    num_reference_rows: int
    seconds: int
    num_rows: int
    num_sampled: int
    threshold: float
    num_measures: int
    num_drifting: int
    worst: tuple[MeasureDrift, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A version's measures, in the order of the reference, and what they come to."""

    reference: Reference
    measures: tuple[MeasureDrift, ...]
    params: DriftParams

    @property
    def drifting(self) -> tuple[MeasureDrift, ...]:
        """Measures that differ by more than chance and enough to matter."""
        return tuple(each for each in self.measures if each.reaches(self.params.psi))

    @property
    def is_drift(self) -> bool:
        """Whether inputs or outputs drift."""
        return self._share(self.params.share_percent) or any(each.is_output for each in self.drifting)

    @property
    def is_settled(self) -> bool:
        """Whether both are well below what is called drift."""
        is_quiet = not any(each.is_output and each.reaches(self.params.notice) for each in self.measures)
        return is_quiet and not self._share(self.params.share_percent / 2)

    @property
    def bad(self) -> tuple[MeasureDrift, ...]:
        """Elements of inputs with too many missing values, or values out of range."""
        return self._bad(1)

    @property
    def is_sound(self) -> bool:
        """Whether no measure has half as many of either as it may."""
        return not self._bad(2)

    @property
    def worst(self) -> tuple[MeasureDrift, ...]:
        """The measures that differ most, worst first, and some of those with bad data."""
        order = sorted(self.measures, key=lambda each: (-each.psi, -each.outside_percent, each.name))
        late = [each for each in order[SHOWN:] if each in self.bad][: SHOWN // 2]
        return (*order[: SHOWN - len(late)], *late)

    def _share(self, percent: float) -> bool:
        inputs = [each for each in self.measures if not each.is_output]
        num_drifting = sum(each.reaches(self.params.psi) for each in inputs)
        return num_drifting > 0 and num_drifting * 100 >= percent * len(inputs)

    def _bad(self, part: int) -> tuple[MeasureDrift, ...]:
        return tuple(
            each
            for each, (measure, is_output) in zip(self.measures, _all(self.reference), strict=True)
            if not is_output and measure.kind == "element" and self._is_bad(each, measure, part)
        )

    def _is_bad(self, each: MeasureDrift, measure: Measure, part: int) -> bool:
        before = _percent(measure.num_missing, self.reference.num_rows)
        is_missing = (each.missing_percent - before) * part >= self.params.missing_percent
        return is_missing or each.outside_percent * part >= self.params.outside_percent


def compared(reference: Reference, counts: tuple[MeasureCounts, ...], params: DriftParams) -> Case:
    """The case of rows that were counted by a reference's bins."""
    measures = tuple(
        _measured(measure, each, is_output=is_output)
        for (measure, is_output), each in zip(_all(reference), counts, strict=True)
    )
    return Case(reference, measures, params)


def _all(reference: Reference) -> Iterator[tuple[Measure, bool]]:
    """Each measure, and whether it is of an output."""
    return ((measure, tensor.is_output) for tensor in reference.tensors for measure in tensor.measures)


def _measured(measure: Measure, counts: MeasureCounts, *, is_output: bool) -> MeasureDrift:
    expected, actual = sum(measure.counts), sum(counts.bins)
    distance = ks(measure.counts, counts.bins)
    return MeasureDrift(
        name=measure.name,
        is_output=is_output,
        num_rows=actual,
        psi=psi(measure.counts, counts.bins) if actual else 0.0,
        by_chance=psi_by_chance(expected, actual, len(measure.counts)),
        ks=distance if actual else 0.0,
        ks_p=ks_p(distance, expected, actual),
        mean_shift=round(counts.shift_milli / (1000 * actual), 3) if actual else 0.0,
        missing_percent=_percent(counts.num_missing, actual + counts.num_missing),
        outside_percent=_percent(counts.num_below + counts.num_above, actual),
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
