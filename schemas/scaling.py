"""Scaling: the handoffs between Scaler, supervisors and Monitor, and what memory says of a pool of executors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

MOST_REPLICAS: Final = 64
LONGEST_S: Final = 86_400
BATCH: Final = "batch"
VARIANT: Final = "variant"
VERTICAL: Final = (BATCH, VARIANT)
"""Vertical steps that a policy may allow."""


@dataclass(frozen=True, slots=True)
class ScaleAction:
    """The Scaler's decision for a pool: ``decision`` is hold, scale_up or scale_down, always with its reason."""

    action_id: str
    pool: str
    decision: str
    current_replicas: int
    target_replicas: int
    reason: str
    time_us: int


@dataclass(frozen=True, slots=True)
class ScaleConfirmation:
    """What a supervisor did about a ``ScaleAction``; ``replicas`` are ready now.

    ``outcome``: done, failed (they do not come up; what stood before stands again) or held (nothing was done), with a
    ``reason`` but for done. ``stopped``: names of the processes that were ended for it, as ``role-instance``.
    """

    action_id: str
    pool: str
    replicas: int
    outcome: str
    time_us: int
    reason: str = ""
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """Body of ``scaling/<pool>``: within what, and by what, the Scaler moves a pool; a pool without one is held.

    Names as in Ray Serve and KEDA; what is 0 by default is not used. ``target_utilization_percent``: of the time of a
    replica, what its batches may take. ``target_ongoing_requests``: rows that are between Router and answer, and
    ``lag_threshold``: rows that wait in executors, each per replica. ``drain_s``: in what time a backlog is to be gone.
    ``upscale_delay_s``, ``downscale_delay_s``: how long more or fewer must be needed without a break; ``cooldown_s``:
    the least time from one action's end to the next, upwards excepted where ``drain_s`` is exceeded already.
    ``cost_per_replica_milli`` and ``budget_milli``: thousandths of a unit of money per hour. ``idle_s``: with
    ``min_replicas`` 0, how long no row may have come before the last replica goes. ``forecast_s``: how far ahead the
    rate is foreseen. ``scale_above_rows_per_s``: below this rate the pool stays at its least. ``vertical``: what is
    tried beside replicas: ``batch``, before another one, larger batches, if that carries ``vertical_gain_percent``
    more; ``variant``, where no more are allowed, the version that is declared a cheaper form of the active one.
    """

    pool: str
    min_replicas: int = 1
    max_replicas: int = 1
    target_utilization_percent: int = 60
    target_ongoing_requests: int = 0
    lag_threshold: int = 0
    drain_s: int = 5
    upscale_delay_s: int = 2
    downscale_delay_s: int = 60
    cooldown_s: int = 10
    cost_per_replica_milli: int = 0
    budget_milli: int = 0
    idle_s: int = 300
    forecast_s: int = 0
    scale_above_rows_per_s: int = 0
    vertical: tuple[str, ...] = ()
    vertical_gain_percent: int = 5

    def within(self, most: int) -> ScalingPolicy:
        """The policy where there can be no more than ``most``."""
        return replace(self, min_replicas=min(self.min_replicas, most), max_replicas=min(self.max_replicas, most))

    @property
    def ceiling(self) -> int:
        """The most replicas that ``max_replicas`` and the budget allow together."""
        if not self.cost_per_replica_milli or not self.budget_milli:
            return self.max_replicas
        return min(self.max_replicas, self.budget_milli // self.cost_per_replica_milli)

    @property
    def floor(self) -> int:
        """The fewest replicas that carry load; only an idle pool goes below it, to 0."""
        return max(1, self.min_replicas)

    @property
    def problem(self) -> str:
        """What is wrong with it as a sentence without a full stop, or "" for nothing."""
        if not 0 <= self.min_replicas <= self.max_replicas or not 1 <= self.max_replicas <= MOST_REPLICAS:
            return f"replicas are 0 to {MOST_REPLICAS}, the least not above the most and the most at least 1"
        if self.ceiling < self.floor:
            return f"the budget pays for {self.ceiling} replicas, fewer than the {self.floor} needed"
        if not 10 <= self.target_utilization_percent <= 95:
            return f"the target utilization is 10 to 95 percent, not {self.target_utilization_percent}"
        if not 1 <= self.drain_s <= LONGEST_S:
            return f"a backlog drains in 1 to {LONGEST_S} seconds, not {self.drain_s}"
        times = (self.upscale_delay_s, self.downscale_delay_s, self.cooldown_s, self.idle_s, self.forecast_s)
        if not all(0 <= time <= LONGEST_S for time in times):
            return f"delays, cooldown, idle time and forecast are 0 to {LONGEST_S} seconds"
        counts = (self.target_ongoing_requests, self.lag_threshold, self.scale_above_rows_per_s)
        if min(*counts, self.cost_per_replica_milli, self.budget_milli) < 0:
            return "targets, thresholds and money are not negative"
        if not set(self.vertical) <= set(VERTICAL) or len(set(self.vertical)) < len(self.vertical):
            return f"vertical steps are {', '.join(VERTICAL)}, each once, not {', '.join(self.vertical)}"
        if not 1 <= self.vertical_gain_percent <= 100:
            return f"the least gain of a vertical step is 1 to 100 percent, not {self.vertical_gain_percent}"
        return ""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Body of ``replicas/<pool>``: how many executors of a pool are ready, and the ``ScaleAction`` that led to it."""

    pool: str
    replicas: int
    action_id: str


@dataclass(frozen=True, slots=True)
class BatchBound:
    """Body of ``vertical/<model>``: items of the largest batch that executors make of it; 0 in a command: their own."""

    model: str
    max_items: int
