"""How much of an executor's time its batches take, and how much of that full batches would have taken; pure.

    busy   = sum of run times / wall time
    useful = sum over batches of n t(cap) / cap / wall time
    fill   = mean over batches of n / cap

n: items of a batch, cap: those of the largest to make, t(cap): its profiled time. A process that is busy and not useful
runs small batches: more load costs it little. Useful near 1 is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from executors.profile import Profile


class Shares(NamedTuple):
    """A window's figures; ``busy`` is above 1 where batches ran side by side in threads."""

    busy: float
    useful: float
    fill: float


@dataclass(slots=True)
class Utilisation:
    """Sums since the last ``close``. ``started_us``: when the window began, any clock in microseconds."""

    started_us: float
    busy_us: float = 0.0
    useful_us: float = 0.0
    fill: float = 0.0
    num_batches: int = 0

    def observe(self, num_items: int, run_us: float, profile: Profile) -> None:
        """Note a batch: items that ran and how long they took."""
        self.busy_us += run_us
        self.sample(num_items, profile, 1)

    def sample(self, num_items: int, profile: Profile, num_batches: int) -> None:
        """Note ``num_batches`` by one of them; their time is for the caller to add to ``busy_us``."""
        share = num_items / profile.cap
        self.useful_us += share * profile.full_batch_us * num_batches
        self.fill += min(share, 1.0) * num_batches  # a row larger than the cap is a batch by itself
        self.num_batches += num_batches

    def close(self, now_us: float) -> Shares:
        """The window's figures; a new one begins at ``now_us``."""
        wall_us = max(now_us - self.started_us, 1.0)
        fill = self.fill / self.num_batches if self.num_batches else 0.0
        shares = Shares(self.busy_us / wall_us, self.useful_us / wall_us, fill)
        self.started_us, self.busy_us, self.useful_us, self.fill, self.num_batches = now_us, 0.0, 0.0, 0.0, 0
        return shares
