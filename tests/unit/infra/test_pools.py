"""Which executors are whose, by their instance."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.pools import FAST, Pool, executor_names, pool_named, pools
from infra.settings import load_settings

counts = st.integers(0, 8)


@given(counts, counts, counts, counts)
def test_pools_share_no_instance_and_each_has_a_lane_for_every_executor(
    executors: int, more: int, slow: int, more_slow: int
) -> None:
    settings = load_settings(
        executors=executors,
        max_executors=executors + more if more else 0,
        slow_executors=slow,
        max_slow_executors=slow + more_slow if slow and more_slow else 0,
    )
    found = pools(settings)
    names = [name for pool in found for name in pool.names(pool.most)]
    assert len(set(names)) == len(names)
    assert all(pool.at_start <= pool.most for pool in found)
    assert sum(pool.most for pool in found) <= settings.num_lanes
    assert [pool.name for pool in found] == ["executors", "executors-slow"][: 2 if settings.num_slow_lanes else 1]
    assert all(pool_named(settings, pool.name) == pool for pool in found)


def test_names() -> None:
    assert Pool("executors-slow", 3, 1, 2).names(2) == ("executor-3", "executor-4")
    assert FAST.names(1) == executor_names(1) == ("executor-0",)
    assert pool_named(load_settings(slow_executors=0), "executors-slow").names(0) == ()
