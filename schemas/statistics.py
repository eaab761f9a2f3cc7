"""What executors count of the rows of versions that have a reference: no values, only how many are where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeasureCounts:
    """Sampled rows by one measure of the reference.

    ``bins``: values per bin; ``num_missing``: NaN or infinite; ``num_below`` and ``num_above``: outside of what the
    reference's rows had, counted in ``bins`` too; ``shift_milli``: sum over the values of (value - mean) / deviation of
    the reference, each rounded to thousandths and at most 1,000 in size.
    """

    bins: tuple[int, ...]
    num_missing: int
    num_below: int
    num_above: int
    shift_milli: int

    @property
    def is_sound(self) -> bool:
        """Whether no count is negative: anybody may write to the topic."""
        return min((*self.bins, self.num_missing, self.num_below, self.num_above)) >= 0


@dataclass(frozen=True, slots=True)
class VersionStatistics:
    """One executor's window of one model version; ``measures`` in the order of the reference.

    ``reference``: first 16 hex digits of the SHA-256 of the reference's body in memory. ``num_rows``: rows (items)
    that ran, ``num_sampled`` of them were looked at.
    """

    executor: str
    model: str
    version: str
    reference: str
    window_start_us: int
    window_us: int
    num_rows: int
    num_sampled: int
    measures: tuple[MeasureCounts, ...]
