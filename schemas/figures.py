"""What checks of model versions measure: the figures of an ``Observation``, one record per kind, as canonical JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GoldenFigures:
    """Rows of the golden set ``digest``: sent, answered by the version (OK or ERROR), right; the first other code."""

    digest: str
    num_rows: int
    num_answered: int
    num_right: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """How rows ended, of requests that the check sent, or of everybody's traffic meanwhile.

    ``num_other``: OK rows that another version answered. ``latency_counts``: OK rows by the time from the broker's
    stamp to the result, as in ``schemas.telemetry.ModelWindow``. ``problem``: the first code that was not OK.
    """

    source: Literal["requests", "traffic"]
    num_rows: int
    num_ok: int
    num_error: int
    num_rejected: int
    num_expired: int
    num_other: int
    latency_counts: tuple[int, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HeldArtefact:
    """The digest of the version that an executor says it holds."""

    executor: str
    digest: str


@dataclass(frozen=True, slots=True)
class IntegrityFigures:
    """The stored file of a version: its SHA-256 as read now, or "" where there is none; what executors hold."""

    stored: str
    executors: tuple[HeldArtefact, ...]


@dataclass(frozen=True, slots=True)
class StatisticsFigures:
    """What came for a model lately: requests, those refused; values of sampled rows, missing and out of range."""

    num_rows: int
    num_rejected: int
    num_values: int = 0
    num_missing: int = 0
    num_out_of_range: int = 0


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature (or output) of the rows since the alert: the distance of the two distribution functions (KS)."""

    name: str
    ks: float
    num_rows: int
    num_reference: int


@dataclass(frozen=True, slots=True)
class DriftFigures:
    """Every feature of a version that its reference and the newest windows have."""

    features: tuple[FeatureDrift, ...]
