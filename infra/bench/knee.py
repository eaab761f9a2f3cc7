"""Find the highest rate that is carried: steps upwards, then bisection. Pure but for the probe that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

STEP: Final = 1.4
TOLERANCE: Final = 0.05
MAX_RATES: Final = 12
TRIES: Final = 2
"""Probes of a rate before it counts as not carried: one hiccup of a shared machine is not the knee."""

Probe = Callable[[float], bool]
"""Puts a rate (per second) on the system and tells whether it was carried."""


def find_knee(probe: Probe, start: float, *, step: float = STEP, tolerance: float = TOLERANCE) -> float | None:
    """Give a rate that was carried while one at most ``tolerance`` (a share of it) above was not.

    From ``start`` the rate is multiplied by ``step`` while it is carried, and halved while it is not; then what lies
    between the two is halved. At most ``MAX_RATES`` rates are tried; None when none was carried.
    """
    left = MAX_RATES
    good, bad = 0.0, 0.0
    rate = start
    while left and not (good and bad):
        left -= 1
        if _carried(probe, rate):
            good, rate = rate, rate * step
        else:
            bad, rate = rate, rate / 2
    while left and good and bad and bad - good > tolerance * good:
        left -= 1
        middle = (good + bad) / 2
        if _carried(probe, middle):
            good = middle
        else:
            bad = middle
    return good or None


def _carried(probe: Probe, rate: float) -> bool:
    return any(probe(rate) for _ in range(TRIES))
