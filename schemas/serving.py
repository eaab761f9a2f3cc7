"""How a model is served beside its plan, what it promises, and which versions are kept from rows: values of memory."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Literal

from schemas.telemetry import LATENCY_BOUNDS_MS

LEAST_PPM: Final = 10
MOST_PPM: Final = 100_000
"""An SLO allows 0.001 % to 10 % of bad answers: above that, no burn rate could reach what alerts."""


@dataclass(frozen=True, slots=True)
class Slo:
    """What a model promises. ``ppm`` are parts per million of its answers; an objective with 0 is not set.

    Of OK answers at most ``late_ppm`` take longer than ``latency_ms`` (one of ``LATENCY_BOUNDS_MS``) from the broker's
    timestamp to the result. Of OK, ERROR and EXPIRED together at most ``error_ppm`` are not OK; REJECTED rows are the
    client's and count nowhere.
    """

    latency_ms: int = 0
    late_ppm: int = 0
    error_ppm: int = 0

    @property
    def problem(self) -> str:
        """What is wrong with it as a sentence without a full stop, or "" for nothing."""
        if not self.latency_ms and not self.error_ppm:
            return "an SLO needs a latency target, an error target, or both"
        if self.latency_ms and self.latency_ms not in LATENCY_BOUNDS_MS:
            near = _nearest(self.latency_ms)
            return f"times are not counted by {self.latency_ms} ms; the nearest latency target is {near} ms"
        if self.latency_ms and not LEAST_PPM <= self.late_ppm <= MOST_PPM:
            return f"the share of answers in time is 0.9 to 0.99999, not {1 - self.late_ppm / 1e6:g}"
        if self.error_ppm and not LEAST_PPM <= self.error_ppm <= MOST_PPM:
            return f"the share of errors is 0.00001 to 0.1, not {self.error_ppm / 1e6:g}"
        return ""

    def __str__(self) -> str:
        parts = []
        if self.latency_ms:
            parts.append(f"{100 - self.late_ppm / 1e4:g} % within {self.latency_ms} ms")
        if self.error_ppm:
            parts.append(f"errors up to {self.error_ppm / 1e4:g} %")
        return ", ".join(parts)


def _nearest(latency_ms: int) -> str:
    """The bounds beside a time."""
    at = bisect_left(LATENCY_BOUNDS_MS, latency_ms)
    return " or ".join(str(bound) for bound in LATENCY_BOUNDS_MS[max(0, at - 1) : at + 1])


@dataclass(frozen=True, slots=True)
class ServingPolicy:
    """Body of ``serving/<model>``; a model without one has the defaults.

    ``fallbacks``: versions that serve where the planned one cannot, first choice first; they take the same inputs.
    ``max_attempts``: tries of a row over the whole path, 1 = no second one. ``hedge``: a row that takes long is also
    given to another lane. ``breaker``: whether a version that fails its rows is kept from them. ``slo``: what the
    Monitor judges it by. ``auto_rollback``: a version that breaks it gives way to the last one that proved itself.
    """

    model: str
    fallbacks: tuple[str, ...] = ()
    max_attempts: int = 2
    hedge: bool = False
    breaker: bool = True
    slo: Slo | None = None
    auto_rollback: bool = True


@dataclass(frozen=True, slots=True)
class Breaker:
    """Body of ``breaker/<model>/<version>``: a breaker that is not closed; closing it removes the key.

    ``open``: no row goes to the version; ``half_open``: a few do, to see. ``reason`` holds the evidence. ``since_us``:
    when it came to this state, ``open_us`` how long it is (or was) to stay open.
    """

    model: str
    version: str
    state: Literal["open", "half_open"]
    reason: str
    since_us: int
    open_us: int

    @property
    def until_us(self) -> int:
        """When an open one lets rows through again to see."""
        return self.since_us + self.open_us
