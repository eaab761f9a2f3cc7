"""Work of rows in executors, and the replicas that it fills."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.capacity import PER_ROW_US, item_us, replicas_for, work_of


def test_an_item_takes_its_share_of_a_full_batch() -> None:
    assert item_us(640.0, 5.0, 64) == 15.0
    assert item_us(640.0, 5.0, 0) == 645.0


def test_work_counts_items_and_what_a_row_costs_beside_them() -> None:
    assert work_of(1_000, 4_000, 50.0) == pytest.approx((1_000 * PER_ROW_US + 200_000) / 1e6)


@pytest.mark.parametrize(
    ("work", "percent", "replicas"),
    [(0.0, 60, 0), (0.01, 60, 1), (0.6, 60, 1), (0.6001, 60, 2), (1.2, 60, 2), (3.0, 50, 6), (0.1 + 0.2, 30, 1)],
)
def test_replicas_for_work(work: float, percent: int, replicas: int) -> None:
    assert replicas_for(work, percent) == replicas


@given(st.floats(0, 1e4), st.integers(10, 95))
def test_no_replica_is_busier_than_the_target_and_one_less_would_be(work: float, percent: int) -> None:
    replicas = replicas_for(work, percent)
    assert work <= replicas * percent / 100 + 1e-4
    if replicas > 1:
        assert work > (replicas - 1) * percent / 100 - 1e-4
