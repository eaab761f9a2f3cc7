"""How long batches really take: the profile of the warm-up, corrected by what is measured since; pure.

t(n) = factor x (fixed + per item x n). The factor follows the measured times slowly (an exponential mean) and each
measurement counts at most by ``MAX_RATIO``, so that a process that was put aside for a moment does not make its models
slow. A corrected profile is handed out when it differs from the last one by more than ``STEP``.

What is thought too slow for its deadlines never runs, so that no measurement would ever say otherwise: each batch that
was given up for it makes the session count as a little faster, until one is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from executors.profile import Profile, Version

SHARE: Final = 0.05
"""Weight of one measurement in the mean."""
MAX_RATIO: Final = 3.0
BOUNDS: Final = (0.25, 20.0)
STEP: Final = 0.15
RELIEF: Final = 0.01
"""By so much one given-up batch lowers a factor of at most 1; a larger one it lowers by ``SHARE``."""


@dataclass(slots=True)
class ServiceTime:
    """The correction of one session. ``measured``: its profile as loaded."""

    measured: Profile
    factor: float = 1.0
    given: float = 1.0

    def observe(self, num_items: int, run_us: float) -> Profile | None:
        """Note one batch; the corrected profile when it has moved enough to be handed out, else None."""
        expected = self.factor * self.measured.time_us(num_items)
        if expected <= 0.0:
            return None
        ratio = min(max(run_us / expected, 1.0 / MAX_RATIO), MAX_RATIO)
        return self._moved(self.factor * (1.0 + SHARE * (ratio - 1.0)))

    def give_up(self) -> Profile | None:
        """Note that a batch did not run because it would have come too late; the profile as from ``observe``."""
        return self._moved(self.factor * (1.0 - (SHARE if self.factor > 1.0 else RELIEF)))

    def _moved(self, factor: float) -> Profile | None:
        self.factor = min(max(factor, BOUNDS[0]), BOUNDS[1])
        if abs(self.factor / self.given - 1.0) < STEP:
            return None
        self.given = self.factor
        return self.profile

    @property
    def profile(self) -> Profile:
        """The corrected profile."""
        measured = self.measured
        return replace(
            measured, fixed_us=measured.fixed_us * self.factor, per_item_us=measured.per_item_us * self.factor
        )


class ServiceTimes:
    """The corrections of all sessions by version; a session that was loaded anew begins with its own profile."""

    def __init__(self) -> None:
        self._times: dict[Version, ServiceTime] = {}

    def of(self, version: Version, measured: Profile) -> ServiceTime:
        """The correction of the session whose profile as loaded is ``measured``."""
        times = self._times.get(version)
        if times is None or times.measured is not measured:
            times = self._times[version] = ServiceTime(measured)
        return times
