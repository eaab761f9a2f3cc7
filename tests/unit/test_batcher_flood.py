"""The batcher under a flood, in virtual time: one executor, a model of 3 ms per row, no Kafka.

What urgent rows may wait for beside a flood of less urgent ones is the batch under way, and that is short.
"""

from __future__ import annotations

import heapq
import random

import pytest

from executors.batcher import Batcher
from executors.profile import Profile
from executors.row_queue import BatchKey

KEY = BatchKey("m", "v1.0.0", (("x", (16,), 4),))
SLOW = Profile(20.0, 3_000.0, 128)
STARTING_US = 300
"""What a batch costs beside its session."""
TIMEOUT_US = 10_000_000
FLOOD, URGENT = 9, 0
OTHER_HOPS_US = 30_000
"""What a request spends elsewhere; the ratio of issue 5 is of end-to-end times."""


def arrivals(rate_of: dict[int, float], seconds: float, seed: int) -> list[tuple[int, int]]:
    """(time in us, priority), each priority at its rate per second, at random times."""
    rng = random.Random(seed)
    made: list[tuple[int, int]] = []
    for priority, rate in rate_of.items():
        at = 0.0
        while (at := at + rng.expovariate(rate)) < seconds:
            made.append((int(at * 1e6), priority))
    return sorted(made)


def waits(rows: list[tuple[int, int]], profile: Profile = SLOW) -> dict[int, list[int]]:
    """Microseconds from arrival to the end of its batch for each row that ran, by priority."""
    batcher, known = Batcher(), {("m", "v1.0.0"): profile}
    found: dict[int, list[int]] = {priority: [] for _, priority in rows}
    coming = list(rows)
    heapq.heapify(coming)
    now = num_rows = 0
    while coming or batcher.queued_items:
        while coming and (coming[0][0] <= now or not batcher.queued_items):
            at, priority = heapq.heappop(coming)
            now = max(now, at)
            assert batcher.add(KEY, (at, priority), 0, bytes([priority]), [1], [at + TIMEOUT_US], at) == []
        batch = batcher.next_batch(now, known)
        assert batch is not None
        num_rows += len(batch.slices) + len(batch.expired)
        if batch.slices:
            now += int(batch.time_us) + STARTING_US
        for row_slice in batch.slices:
            at, priority = row_slice.frame
            found[priority].append(now - at)
    assert num_rows == len(rows)
    return found


def p99(values: list[int]) -> int:
    return sorted(values)[int(0.99 * len(values))]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_flood_costs_urgent_rows_one_short_batch(seed: int) -> None:
    full = 1e6 / SLOW.per_item_us
    alone = waits(arrivals({URGENT: 0.2 * full}, 60, seed))
    both = waits(arrivals({URGENT: 0.2 * full, FLOOD: 1.5 * full}, 60, seed))
    before, after = p99(alone[URGENT]), p99(both[URGENT])
    assert after <= before + SLOW.full_batch_us + STARTING_US
    assert (after + OTHER_HOPS_US) / (before + OTHER_HOPS_US) < 1.5
    assert max(both[URGENT]) < 100_000  # also when the flood has waited until it counts as class 0
    carried = (len(both[URGENT]) + len(both[FLOOD])) * SLOW.per_item_us / 60e6
    assert carried > 0.85  # short batches waste little


def test_without_the_cap_urgent_rows_wait_for_a_full_batch() -> None:
    """That the bound above is the cap's doing."""
    endless = Profile(20.0, 3_000.0, 128)
    object.__setattr__(endless, "cap", 128)
    object.__setattr__(endless, "ride_cap", 128)
    full = 1e6 / SLOW.per_item_us
    both = waits(arrivals({URGENT: 0.2 * full, FLOOD: 1.5 * full}, 30, 1), endless)
    assert p99(both[URGENT]) > 300_000
