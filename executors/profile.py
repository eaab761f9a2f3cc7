"""How long a session takes for a batch, and how large a batch is worth its time; pure.

A larger batch is worth it only while its fixed part weighs. Where the time per item dominates, more items buy nothing
and make everybody behind the batch wait, for nothing interrupts a session: a batch of 128 rows at 3 ms holds an urgent
row up for 384 ms. So a batch is no larger than it needs to be for its fixed part to be a few percent of it, and no
shorter than what the work around it (a thread, a turn of the loop) is small against.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Final

FIXED_SHARE: Final = 0.05
MIN_BATCH_US: Final = 8_000.0
"""Below it a batch may always grow: what starts one costs some tenths of a millisecond where it runs in a thread."""
LONG_SHARE: Final = 0.2
LONG_BATCH_US: Final = 50_000.0
"""Above it a fixed part of ``LONG_SHARE`` is small enough: it is also what a measurement of one row errs by."""
RIDE_SHARE: Final = 0.5
MIN_RIDE_US: Final = 1_000.0

Version = tuple[str, str]
"""Model and version."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Service time of a session, t(n) = fixed_us + per_item_us * n, and its limits; ``weight`` is its share.

    ``cap``: items of the largest batch to make, at most ``max_batch_size`` and what the plan allows (``allowed``, 0 for
    any number): ``bound`` where memory has one, else the fewest of which the fixed part is at most ``FIXED_SHARE``
    (``LONG_SHARE`` of a long batch) and that take at least ``MIN_BATCH_US``. ``ride_cap``: up to so many items a batch
    takes less urgent rows along, which cost its urgent ones next to nothing: by ``RIDE_SHARE`` and ``MIN_RIDE_US``.
    """

    fixed_us: float
    per_item_us: float
    max_batch_size: int
    weight: float = 1.0
    bound: int = 0
    allowed: int = 0
    cap: int = field(init=False, compare=False)
    ride_cap: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the caps once: they are asked for with every batch."""
        cap = min(self.bound, self.most) if self.bound else self._fewest(self._worth_us)
        object.__setattr__(self, "cap", cap)
        object.__setattr__(self, "ride_cap", self._fewest(max(self.fixed_us / RIDE_SHARE, MIN_RIDE_US)))

    @property
    def most(self) -> int:
        """Items that model and plan allow in a batch."""
        return min(self.max_batch_size, self.allowed or self.max_batch_size)

    @property
    def _worth_us(self) -> float:
        long_us = max(self.fixed_us / LONG_SHARE, LONG_BATCH_US)
        return max(min(self.fixed_us / FIXED_SHARE, long_us), MIN_BATCH_US)

    def _fewest(self, wanted_us: float) -> int:
        """The fewest items that take ``wanted_us``; the limit, where the time per item is next to nothing."""
        if self.time_us(self.most) <= wanted_us:
            return self.most
        return min(self.most, max(1, ceil((wanted_us - self.fixed_us) / self.per_item_us)))

    def time_us(self, num_items: int) -> float:
        """Time of a batch of ``num_items``."""
        return self.fixed_us + self.per_item_us * num_items

    def bounded(self, bound: int, allowed: int = 0) -> Profile:
        """The same with another bound of its batches and another number that the plan allows, 0 for none."""
        return self if (bound, allowed) == (self.bound, self.allowed) else replace(self, bound=bound, allowed=allowed)

    @property
    def full_batch_us(self) -> float:
        """Time of a batch of ``cap`` items."""
        return self.time_us(self.cap)
