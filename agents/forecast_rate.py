"""Where a rate is going: Holt's linear method for observations that come at uneven times. Pure.

    level' = a x + (1 - a) (level + trend dt)             a = dt / (level_s + dt)
    trend' = b (level' - level) / dt + (1 - b) trend      b = dt / (trend_s + dt)
    forecast = level + trend ahead, at least 0

Source: C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages" (1957); weights that
grow with the time between observations as in D. J. Wright, "Forecasting data published at irregular time intervals"
(1986), here as first-order lags: these need no exponential, whose last digit may differ between machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEVEL_S: Final = 10.0
TREND_S: Final = 30.0
DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Holt:
    """``level`` in the unit of what is observed, ``trend`` per second, both as of ``at_us``."""

    level: float
    trend: float
    at_us: int


def observed(known: Holt | None, value: float, now_us: int, level_s: float = LEVEL_S, trend_s: float = TREND_S) -> Holt:
    """What is known after ``value`` was seen; one that does not come later than the last changes nothing."""
    if known is None:
        return Holt(round(value, DIGITS), 0.0, now_us)
    past_s = (now_us - known.at_us) / 1e6
    if past_s <= 0:
        return known
    near, steep = past_s / (level_s + past_s), past_s / (trend_s + past_s)
    level = near * value + (1 - near) * (known.level + known.trend * past_s)
    trend = steep * (level - known.level) / past_s + (1 - steep) * known.trend
    return Holt(round(level, DIGITS), round(trend, DIGITS), now_us)


def forecast(known: Holt, ahead_s: float) -> float:
    """What is to be expected ``ahead_s`` after the last observation; never negative."""
    return max(0.0, known.level + known.trend * ahead_s)
