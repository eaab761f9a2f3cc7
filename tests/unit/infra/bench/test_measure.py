"""Matching by coordinate, and the figures, on small hand-made runs."""

import numpy as np
import pytest

from infra.bench.measure import (
    Matched,
    Received,
    Sent,
    first_ok_after,
    located,
    match,
    match_by_id,
    misplaced,
    summarise,
)


def column(*values):
    return np.array(values, np.int64)


def sent(*places, start_us=1_000_000, step_us=1_000):
    """Requests scheduled ``step_us`` apart at (partition, offset); (-1, -1) was never acknowledged."""
    scheduled = start_us + step_us * np.arange(len(places), dtype=np.int64)
    partition, offset = (column(*(place[i] for place in places)) for i in (0, 1))
    return Sent(scheduled, scheduled + 5, partition, offset, np.zeros(len(places), np.int64))


def received(*results):
    """Results as (partition, offset, instant us, status), none of them reaped."""
    columns = [column(*(result[i] for result in results)) for i in range(4)]
    return Received(*columns, np.zeros(len(results), np.int64), np.full(len(results), -1, np.int64))


def test_results_meet_their_requests_in_any_order():
    requests = sent((0, 10), (1, 10), (0, 11))
    matched = match(requests, received((0, 11, 1_005_000, 1), (1, 10, 1_002_000, 3), (0, 10, 1_000_700, 1)))
    assert matched.latency_us.tolist() == [700, 1_000, 3_000]
    assert matched.status.tolist() == [1, 3, 1]
    assert matched.results.tolist() == [1, 1, 1]
    assert matched.foreign == 0


def test_first_of_two_results_counts_and_the_second_is_noted():
    matched = match(sent((0, 0)), received((0, 0, 1_000_100, 1), (0, 0, 1_900_000, 2)))
    assert (matched.latency_us[0], matched.status[0], matched.results[0]) == (100, 1, 2)
    assert summarise(sent((0, 0)), matched, warmup_us=0).duplicated == 1


def test_missing_unacknowledged_and_foreign_are_told_apart():
    requests = sent((0, 5), (-1, -1), (0, 6))
    summary = summarise(requests, match(requests, received((0, 5, 1_000_100, 1), (0, 99, 1_000_200, 1))), warmup_us=0)
    assert (summary.sent, summary.acknowledged, summary.unacknowledged) == (3, 2, 1)
    assert (summary.ok, summary.missing, summary.foreign, summary.duplicated) == (1, 1, 1, 0)


def test_nothing_sent_and_nothing_received():
    nothing = match(sent(), received())
    assert summarise(sent(), nothing, warmup_us=0).sent == 0
    assert match(sent(), received((0, 0, 1, 1))).foreign == 1
    silent = summarise(sent((0, 1)), match(sent((0, 1)), received()), warmup_us=0)
    assert (silent.missing, silent.mean_ms, silent.p99_ms, silent.rate_rps) == (1, None, None, 0.0)


def test_warm_up_is_out_of_the_percentiles_and_inside_the_counts():
    requests = sent((0, 0), (0, 1), (0, 2), (0, 3))
    late = received((0, 0, 9_000_000, 1), (0, 1, 1_003_000, 1), (0, 2, 1_004_000, 1), (0, 3, 1_005_000, 2))
    summary = summarise(requests, match(requests, late), warmup_us=1_000)
    assert (summary.ok, summary.error, summary.measured) == (3, 1, 2)
    assert (summary.mean_ms, summary.p50_ms, summary.max_ms) == (2.0, 2.0, 2.0)
    assert summary.rate_rps == pytest.approx(2 / 0.003, abs=0.1)
    assert summary.late_start_p99_ms == 0.005


def test_first_ok_after_counts_requests_sent_after_the_instant():
    requests = sent((0, 0), (0, 1), (0, 2))
    matched = match(requests, received((0, 0, 9_000_000, 1), (0, 1, 1_500_000, 1), (0, 2, 1_300_000, 2)))
    assert first_ok_after(requests, matched, 1_000_500) == pytest.approx(0.4995)
    assert first_ok_after(requests, matched, 1_001_500) is None


def test_large_offsets_keep_their_partition():
    requests = sent((3, 2**40), (4, 2**40))
    matched = match(requests, received((4, 2**40, 1_001_500, 1)))
    assert matched.results.tolist() == [0, 1]
    assert isinstance(matched, Matched)


def named(*results):
    """Results as (partition, offset, index), each arrived at 1.1 s and OK."""
    partition, offset, index = (column(*(result[i] for result in results)) for i in range(3))
    size = len(results)
    return Received(partition, offset, np.full(size, 1_100_000), np.ones(size, np.int64), np.zeros(size, int), index)


def test_results_meet_their_requests_by_the_number_in_the_key():
    results = named((0, 5, 0), (1, 5, 1), (1, 5, 1), (0, 9, -1), (0, 8, 99))
    partition, offset = located(4, 2, column(3), 0, results)
    assert (partition.tolist(), offset.tolist()) == ([0, 1, 0, -1], [5, 5, -2, -2])
    requests = Sent(column(*range(4)), column(*range(4)), partition, offset, np.zeros(4, np.int64))
    matched = match_by_id(requests, results)
    assert matched.results.tolist() == [1, 2, 0, 0]
    assert matched.foreign == 2
    summary = summarise(requests, matched, warmup_us=0)
    assert (summary.acknowledged, summary.unacknowledged, summary.missing, summary.duplicated) == (3, 1, 1, 1)


def test_unconfirmed_requests_are_the_last_ones_without_a_result():
    partition, _ = located(4, 1, column(), 2, named((0, 0, 0)))
    assert partition.tolist() == [0, 0, -1, -1]


def test_key_and_coordinate_must_agree_and_offsets_rise():
    requests = sent((0, 5), (0, 6), (0, 7))
    assert misplaced(requests, named((0, 5, 0), (0, 6, 1), (0, 99, -1))) == 0
    assert misplaced(requests, named((0, 6, 0), (1, 6, 1))) == 2
    assert misplaced(sent((0, 5), (0, 4), (1, 3)), named()) == 1
    assert misplaced(sent((-1, -1), (0, -2)), named((0, 3, 1))) == 0
