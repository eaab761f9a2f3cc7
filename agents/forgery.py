"""Cached values that this stack did not write, as stages tell of them: one alert per stage until none is met. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.alerting import critical
from schemas.coordinate import RecordCoordinate
from schemas.telemetry import Telemetry
from streams.agent import NO_EFFECTS, Effects, Event, Publish


@dataclass(frozen=True, slots=True)
class Forgery:
    """Cached values that somebody else wrote, as a stage met them: how many so far, and when the last one."""

    alert_id: str
    num_values: int
    last_us: int
    cause: RecordCoordinate


Forgeries = Mapping[str, Forgery]
"""By ``stage-instance``, while they are alerted."""


def note(met: Forgeries, window: Telemetry, event: Event) -> tuple[Forgeries, Effects]:
    """Take a stage's window; the first one with such values raises the alert."""
    if window.num_cache_forged == 0:
        return met, NO_EFFECTS
    place = f"{window.stage}-{window.instance}"
    known = met.get(place)
    alert_id = f"cache_forged/{place}/{window.window_start_us}" if known is None else known.alert_id
    num_values = window.num_cache_forged + (0 if known is None else known.num_values)
    forgery = Forgery(alert_id, num_values, event.now_us, event.coordinate)
    met = {**met, place: forgery}
    message = "Redis holds cached answers that this stack did not write; they are not used."
    return met, () if known is not None else (_alert(place, forgery, message, event.now_us, resolved=False),)


def gone(met: Forgeries, now_us: int, quiet_us: int) -> tuple[Forgeries, Effects]:
    """Resolve the alerts of stages that met none for ``quiet_us``."""
    quiet = [place for place, each in sorted(met.items()) if now_us - each.last_us >= quiet_us]
    if not quiet:
        return met, NO_EFFECTS
    message = "No more cached answers of others were met."
    effects = tuple(_alert(place, met[place], message, now_us, resolved=True) for place in quiet)
    return {place: each for place, each in met.items() if place not in quiet}, effects


def _alert(place: str, met: Forgery, message: str, now_us: int, *, resolved: bool) -> Publish:
    return critical("cache_forged", place, message, met, now_us, resolved=resolved)
