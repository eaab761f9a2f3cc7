"""Checks of model versions: what is asked for, what was measured, and the golden sets they are measured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from schemas.coordinate import RecordCoordinate

GOLDEN_SET: Final = "golden_set"
LATENCY: Final = "latency"
SERVING: Final = "serving"
INTEGRITY: Final = "integrity"
DRIFT: Final = "drift_confirmed"
STATISTICS: Final = "schema_statistics"
CHECKS: Final = (GOLDEN_SET, LATENCY, SERVING, INTEGRITY, DRIFT, STATISTICS)
"""Names of all checks; each is passed when nothing is wrong, ``drift_confirmed`` when the drift is *not* confirmed."""

MAX_GOLDEN_ROWS: Final = 2_000
MAX_GOLDEN_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Asks for a check of a model version. ``alert_id``: the alert, incident or review that it answers, or ""."""

    request_id: str
    check: str
    model: str
    version: str
    reason: str
    alert_id: str
    requester: str
    requested_us: int
    deadline_us: int
    causes: tuple[RecordCoordinate, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What was measured for a check. ``has_run`` False: it could not be run, and ``problem`` says why.

    ``figures`` is canonical JSON of the check's record in ``schemas.figures``.
    """

    request: CheckRequest
    has_run: bool
    problem: str
    num_samples: int
    figures: str
    started_us: int
    observed_us: int


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Body of ``golden/<model>``: rows with known answers, and how many must be answered right.

    ``digest``: SHA-256 (hex) of the stored ``.npz``. ``kind`` ``labels``: of the output ``output`` the class is its
    integer, the first of several, or the place of the largest number of a row of FP; it must equal the label.
    ``outputs``: all named outputs must equal the stored ones within ``tolerance`` (absolute, and relative to the stored
    one). ``min_accuracy_ppm``: right rows of a million.
    """

    model: str
    digest: str
    size_bytes: int
    num_rows: int
    kind: Literal["labels", "outputs"]
    output: str
    min_accuracy_ppm: int
    tolerance: float = 0.0

    @property
    def problem(self) -> str:
        """What is wrong with it as a sentence without a full stop, or "" for nothing."""
        if not 1 <= self.num_rows <= MAX_GOLDEN_ROWS:
            return f"a golden set has 1 to {MAX_GOLDEN_ROWS:,} rows, not {self.num_rows:,}"
        if not 1 <= self.size_bytes <= MAX_GOLDEN_BYTES:
            return f"a golden set has at most {MAX_GOLDEN_BYTES:,} bytes, not {self.size_bytes:,}"
        if not 1 <= self.min_accuracy_ppm <= 1_000_000:
            return f"the least accuracy is above 0 and at most 1, not {self.min_accuracy_ppm / 1e6:g}"
        if not 0 <= self.tolerance <= 1:
            return f"the tolerance is 0 to 1, not {self.tolerance:g}"
        if self.kind == "labels" and not self.output:
            return "labels are compared with an output, and none is named"
        return ""
