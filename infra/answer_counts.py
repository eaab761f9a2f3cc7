"""How rows of a check ended: counts of its own answers, or of the windows that Validators tell of everybody's."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

from schemas.figures import AnswerFigures
from schemas.telemetry import LATENCY_BOUNDS_MS, Telemetry
from streams.client.answer import Answer
from streams.errors import IsosError

STAGE: Final = "validator"
TRAFFIC_ROWS: Final = 50


class TrafficCounts:
    """How rows of a version ended, by the windows of Validators that began at ``since_us`` or later."""

    def __init__(self, model: str, version: str, since_us: int) -> None:
        self.num_rows = 0
        self._version = (model, version)
        self._since_us = since_us
        self._sums = [0, 0, 0, 0]
        self._latency: list[int] = []

    def add(self, window: Any) -> bool:
        """Count a window; whether there are rows enough."""
        if isinstance(window, Telemetry) and window.stage == STAGE and window.window_start_us >= self._since_us:
            for part in window.models:
                if (part.model, part.version) == self._version:
                    self.num_rows += part.num_rows
                    for at, count in enumerate((part.num_ok, part.num_error, part.num_rejected, part.num_expired)):
                        self._sums[at] += count
                    lacking = len(part.latency_counts) - len(self._latency)
                    self._latency += [0] * max(0, lacking)
                    for at, count in enumerate(part.latency_counts):
                        self._latency[at] += count
        return self.num_rows >= TRAFFIC_ROWS

    def figures(self) -> AnswerFigures:
        """The sums."""
        ok, error, rejected, expired = self._sums
        return AnswerFigures("traffic", self.num_rows, ok, error, rejected, expired, 0, tuple(self._latency))


def figures_of(answers: list[Answer | IsosError], version: str) -> AnswerFigures:
    """How the requests of a check ended; one without a result counts as expired."""
    counts = dict.fromkeys(("OK", "ERROR", "REJECTED", "EXPIRED"), 0)
    latency: list[int] = []
    other = 0
    problem = ""
    for answer in answers:
        status = answer.result.status if isinstance(answer, Answer) else "EXPIRED"
        counts[status] += 1
        code = code_of(answer, version)
        problem = problem or code
        other += status == "OK" and bool(code)
        if isinstance(answer, Answer) and status == "OK":
            took_us = max(0, answer.result.timing.completed_us - answer.result.received_us)
            at = bisect_left(LATENCY_BOUNDS_MS, took_us / 1_000)
            latency += [0] * (at + 1 - len(latency))
            latency[at] += 1
    ended = counts["OK"], counts["ERROR"], counts["REJECTED"], counts["EXPIRED"]
    return AnswerFigures("requests", len(answers), *ended, other, tuple(latency), problem)


def code_of(answer: Answer | IsosError, version: str) -> str:
    """Why an answer does not count, or "": its error's code, or that another version gave it."""
    if not isinstance(answer, Answer):
        return str(getattr(answer, "code", "no_result"))
    error = answer.error()
    if error is not None:
        return error.code
    return "" if answer.result.model_version == version else "other_version"
