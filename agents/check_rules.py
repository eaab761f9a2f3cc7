"""Whether what a check measured is good enough: pure rules, one per check.

Three outcomes. ``failed`` says that something is wrong with the version; where too little was measured to say so, the
outcome is ``not_run``, never ``passed``. A share of rows is judged by the interval that holds it with 95 % (Wilson
1927, score interval): few rows fail nothing by chance. Shares are parts per million, rounded, before they are compared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Final, Literal

from schemas.check import GoldenSet
from schemas.figures import AnswerFigures, GoldenFigures, IntegrityFigures, StatisticsFigures
from schemas.serving import Slo
from schemas.telemetry import LATENCY_BOUNDS_MS
from streams.canonical import to_json, to_plain

MILLION: Final = 1_000_000
Z: Final = 1.96
"""Standard normal quantile of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class CheckParams:
    """``min_rows``: with fewer, serving, latency and statistics are not judged; ``min_answered_percent``: golden rows.

    ``error_ppm``, ``late_ppm``: what is allowed where no SLO says it. ``rejected_ppm``, ``missing_ppm`` and
    ``out_of_range_ppm``: what statistics allow of requests and of values.
    """

    min_rows: int = 10
    min_answered_percent: int = 90
    error_ppm: int = 10_000
    late_ppm: int = 10_000
    rejected_ppm: int = 50_000
    missing_ppm: int = 10_000
    out_of_range_ppm: int = 50_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What memory says of a model: digest per version, the active one, golden set, SLO, time-out of its plan."""

    digests: Mapping[str, str] = field(default_factory=dict)
    active: str = ""
    golden: GoldenSet | None = None
    slo: Slo | None = None
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome, its sentence, how many rows it rests on, and what it was judged by as canonical JSON."""

    outcome: Literal["passed", "failed", "not_run"]
    message: str
    num_samples: int = 0
    evidence: str = ""


def not_run(reason: str, num_samples: int = 0, evidence: str = "") -> Judged:
    """A check without an outcome, and why."""
    return Judged("not_run", reason, num_samples, evidence)


def wilson(num_hits: int, num_rows: int) -> tuple[int, int]:
    """Bounds in parts per million of the share that ``num_hits`` of ``num_rows`` (at least 1) speak for, with 95 %."""
    share, spread = num_hits / num_rows, Z * Z / num_rows
    middle = share + spread / 2
    half = Z * sqrt(share * (1 - share) / num_rows + spread / (4 * num_rows))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return max(0, round(low * MILLION)), min(MILLION, round(high * MILLION))


def ppm(num_hits: int, num_rows: int) -> int:
    """A share in parts per million, rounded down."""
    return num_hits * MILLION // num_rows


def judge_golden(figures: GoldenFigures, facts: Facts, params: CheckParams) -> Judged:
    """Accuracy on the golden set: as many rows right as the set asks for. A row in ERROR is an answer, and wrong."""
    golden = facts.golden
    if golden is None or golden.digest != figures.digest:
        return not_run("The golden set was changed meanwhile.")
    if figures.num_answered * 100 < figures.num_rows * params.min_answered_percent or not figures.num_answered:
        why = f" ({figures.problem})" if figures.problem else ""
        return not_run(f"Only {figures.num_answered} of {figures.num_rows} rows were answered{why}.")
    accuracy, (low, high) = (
        ppm(figures.num_right, figures.num_answered),
        wilson(figures.num_right, figures.num_answered),
    )
    wanted = golden.min_accuracy_ppm
    sentence = (
        f"{percent(accuracy)} of {figures.num_answered} rows are right (with 95 %: {percent(low)} to {percent(high)}), "
        f"{percent(wanted)} are wanted."
    )
    evidence = _evidence(figures, accuracy_ppm=accuracy, low_ppm=low, high_ppm=high, min_accuracy_ppm=wanted)
    return Judged("passed" if accuracy >= wanted else "failed", sentence, figures.num_answered, evidence)


def judge_serving(figures: AnswerFigures, facts: Facts, params: CheckParams) -> Judged:
    """Rows end OK: all that the check sent; of traffic, as many as the SLO asks for. REJECTED rows do not count."""
    counted = figures.num_ok + figures.num_error + figures.num_expired
    bad = figures.num_error + figures.num_expired + figures.num_other
    if counted < params.min_rows and not (bad and figures.source == "requests"):
        return _too_few(figures, counted)
    allowed = facts.slo.error_ppm if facts.slo is not None and facts.slo.error_ppm else params.error_ppm
    low, high = wilson(bad, counted)
    failed = bad > 0 if figures.source == "requests" else low > allowed
    parts = [f"{counted - bad} of {counted} {_of(figures)} ended OK"]
    if figures.num_other:
        parts.append(f"{figures.num_other} were answered by another version")
    if figures.problem:
        parts.append(f"first: {figures.problem}")
    evidence = _evidence(figures, bad_low_ppm=low, bad_high_ppm=high, allowed_ppm=allowed)
    return Judged("failed" if failed else "passed", f"{', '.join(parts)}.", counted, evidence)


def judge_latency(figures: AnswerFigures, facts: Facts, params: CheckParams) -> Judged:
    """OK rows are in time: within the SLO's latency for the share that it asks for, else within the plan's time-out."""
    counted = sum(figures.latency_counts)
    if counted < params.min_rows:
        return _too_few(figures, counted)
    promised = facts.slo is not None and facts.slo.latency_ms
    limit_ms = facts.slo.latency_ms if facts.slo is not None and promised else facts.timeout_ms
    if not limit_ms:
        return not_run("The model has no plan, and so no time-out.", counted, to_json(figures))
    allowed = facts.slo.late_ppm if facts.slo is not None and promised else params.late_ppm
    late = sum(figures.latency_counts[bisect_left(LATENCY_BOUNDS_MS, limit_ms) + 1 :])
    low, high = wilson(late, counted)
    p50, p99 = quantile_ms(figures.latency_counts, 50), quantile_ms(figures.latency_counts, 99)
    what = "its SLO" if promised else "its time-out"
    sentence = f"{_up_to('p50', p50)}, {_up_to('p99', p99)} of {counted} {_of(figures)}; {what} is {limit_ms} ms."
    more = {"p50_ms": p50, "p99_ms": p99, "limit_ms": limit_ms, "num_late": late, "late_low_ppm": low}
    evidence = _evidence(figures, **more, late_high_ppm=high, allowed_ppm=allowed)
    return Judged("failed" if low > allowed else "passed", sentence, counted, evidence)


def judge_integrity(figures: IntegrityFigures, version: str, facts: Facts) -> Judged:
    """The stored file and what executors hold have the digest that memory names; some executor holds the active one."""
    expected = facts.digests[version]
    held, evidence = len(figures.executors), _evidence(figures, expected=expected)
    wrong = [each.executor for each in figures.executors if each.digest != expected]
    if not figures.stored:
        return Judged("failed", f"The file {expected[:12]} is not in the model store.", held, evidence)
    if figures.stored != expected:
        return Judged(
            "failed", f"The stored file {expected[:12]} holds other bytes ({figures.stored[:12]}).", held, evidence
        )
    if wrong:
        return Judged("failed", f"{', '.join(wrong)} holds another file than {expected[:12]}.", held, evidence)
    if not held and version == facts.active:
        return Judged("failed", "The stored file is sound, but no executor holds the active version.", held, evidence)
    held_by = f"{held} executors hold it" if held != 1 else "1 executor holds it"
    return Judged("passed", f"The stored file is {expected[:12]}, and {held_by}.", held, evidence)


def judge_statistics(figures: StatisticsFigures, params: CheckParams) -> Judged:
    """What comes fits the model's schema: few requests are refused, few values missing or out of range."""
    if figures.num_rows < params.min_rows:
        return not_run(f"Only {figures.num_rows} requests came.", figures.num_rows, to_json(figures))
    cases = [("requests were refused", figures.num_rejected, figures.num_rows, params.rejected_ppm)]
    if figures.num_values:
        cases += [
            ("values were missing", figures.num_missing, figures.num_values, params.missing_ppm),
            ("values were out of range", figures.num_out_of_range, figures.num_values, params.out_of_range_ppm),
        ]
    parts = [f"{percent(ppm(hits, rows))} of {rows} {what}" for what, hits, rows, _ in cases]
    failed = any(wilson(hits, rows)[0] > allowed for _, hits, rows, allowed in cases)
    return Judged("failed" if failed else "passed", f"{', '.join(parts)}.", figures.num_rows, to_json(figures))


def quantile_ms(counts: tuple[int, ...], percentile: int) -> int:
    """Upper bound in milliseconds of a percentile of counted times (at least one); 0 above all bounds."""
    rank, seen = max(1, -(-sum(counts) * percentile // 100)), 0
    for at, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return LATENCY_BOUNDS_MS[at] if at < len(LATENCY_BOUNDS_MS) else 0
    return 0


def percent(parts: int) -> str:
    """Parts per million for people."""
    return f"{parts / 10_000:.4g} %"


def _too_few(figures: AnswerFigures, counted: int) -> Judged:
    why = f" ({figures.problem})" if figures.problem else ""
    return not_run(f"Only {counted} {_of(figures)} were answered{why}.", counted, to_json(figures))


def _of(figures: AnswerFigures) -> str:
    return "rows of the check" if figures.source == "requests" else "rows of traffic"


def _up_to(name: str, bound_ms: int) -> str:
    return f"{name} up to {bound_ms} ms" if bound_ms else f"{name} above {LATENCY_BOUNDS_MS[-1]} ms"


def _evidence(figures: Any, **more: Any) -> str:
    return to_json({**to_plain(figures), **more})
