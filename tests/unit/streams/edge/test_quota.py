"""The request limit in this process against a reference GCRA; a store without Redis falls back to it."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.edge.quota import LocalQuota, QuotaStore
from tests.support.broker import free_ports
from tests.support.charges import Charge, judged, judged_here
from tests.support.frames import TOPIC_ID, T

INTERVAL_US = 100_000.0
BURST = 5


def charge(offset: int, at_us: int, tenant: str = "default", partition: int = 0) -> Charge:
    return Charge(partition, offset, tenant, T + at_us)


def reference(times: list[int]) -> list[int]:
    """GCRA for one tenant, times ascending: a theoretical arrival time and nothing else."""
    tat, answers = 0.0, []
    for at in times:
        early = tat - BURST * INTERVAL_US - at
        if early > 0:
            answers.append(math.ceil(early))
        else:
            tat = max(tat, at) + INTERVAL_US
            answers.append(-1)
    return answers


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 400_000), max_size=80))
def test_requests_in_order_are_judged_by_gcra(pauses: list[int]) -> None:
    times, now = [], 0
    for pause in pauses:
        now += pause // 3
        times.append(now)
    quota = LocalQuota(INTERVAL_US, BURST)
    answers = judged_here(quota, [charge(number, at) for number, at in enumerate(times)])
    assert answers == reference([T + at for at in times])


def test_a_burst_then_the_rate_across_second_boundaries() -> None:
    quota = LocalQuota(INTERVAL_US, BURST)
    answers = judged_here(quota, [charge(number, number * 1000) for number in range(4000)])  # 1,000/s for 4 s at 10/s
    assert sum(answer == -1 for answer in answers) in range(40, 40 + BURST + 3)
    assert all(answer == -1 or answer > 0 for answer in answers)


def test_tenants_have_limits_of_their_own() -> None:
    quota = LocalQuota(INTERVAL_US, BURST)
    first = judged_here(quota, [charge(number, 0, "a") for number in range(20)])
    assert first.count(-1) == BURST + 1
    assert judged_here(quota, [charge(99, 0, "b")]) == [-1]


def test_a_backlog_spread_over_time_is_not_a_burst() -> None:
    quota = LocalQuota(INTERVAL_US, BURST)
    assert set(judged_here(quota, [charge(number, number * 100_000) for number in range(500)])) == {-1}


def test_a_late_request_is_judged_by_its_own_second() -> None:
    quota = LocalQuota(INTERVAL_US, BURST)
    assert judged_here(quota, [charge(1, 30_000_000)]) == [-1]
    assert judged_here(quota, [charge(2, 1_000_000, partition=1)]) == [-1]


async def test_without_redis_the_rule_runs_here_and_says_so() -> None:
    (port,) = free_ports(1)
    store = QuotaStore(f"redis://127.0.0.1:{port}/0", TOPIC_ID, rate_per_s=10, burst=BURST)
    try:
        answers = await judged(store, [charge(number, 0) for number in range(20)])
        assert answers.count(-1) == BURST + 1
        assert store.degraded is True
        assert await judged(store, []) == []
    finally:
        await store.close()
