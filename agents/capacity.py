"""How much of an executor's time rows take, and how many executors that fills. Pure.

A batch of n items takes t(n) = fixed + per_item n (profiled by each executor). Under load batches are as full as the
plan lets them be, so an item takes t(cap) / cap: larger batches come before more executors by themselves. Beside that
each row costs ``PER_ROW_US`` to read, cut, gather and write. Work is in executors: 0.5 keeps one busy half of its time.

    replicas = ceil((rate + lag / drain_s) x time of an item / target utilization)

Source: utilization law (work = rate x service time); names and form as in the design, section 6.
"""

from __future__ import annotations

import math
from typing import Final

PER_ROW_US: Final = 12.0
"""An executor's own time for a row beside its batch, microseconds: of 17 measured in all, 5 were a small model's."""
DIGITS: Final = 6


def item_us(fixed_us: float, per_item_us: float, max_batch_size: int) -> float:
    """Microseconds that an item takes in a full batch."""
    return fixed_us / max(1, max_batch_size) + per_item_us


def work_of(rows: float, items: float, time_us: float) -> float:
    """Executor-seconds that so many rows with so many items take; per second, for rates, that is executors."""
    return (rows * PER_ROW_US + items * time_us) / 1e6


def replicas_for(work: float, target_percent: int) -> int:
    """Executors that ``work`` keeps busy for at most ``target_percent`` of their time."""
    return math.ceil(round(work * 100 / target_percent, DIGITS))
