"""The ledger against a plain model of it, and the cases by name."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger import MAX_LISTED, SOURCE, SOURCE_HEADER, LedgerFold, OffsetList, fold, source_of

TOPIC_ID = bytes(range(16))
NOW_MS, AGE_MS = 1_000_000, 50_000
OLD, YOUNG = NOW_MS - AGE_MS - 1, NOW_MS - AGE_MS


def result(partition, offset, status=b"O", *, reaped=False, topic_id=TOPIC_ID):
    headers = [("isos-source", SOURCE.pack(topic_id, partition, offset)), ("isos-status", status)]
    return [*headers, ("isos-reaped", b"1")] if reaped else headers


def report(requests, results):
    return fold(TOPIC_ID, requests, results, now_ms=NOW_MS, max_age_ms=AGE_MS)


def test_every_status_is_counted():
    requests = [(0, offset, OLD) for offset in range(5, 9)]
    found = report(requests, [result(0, 5 + i, status) for i, status in enumerate([b"O", b"E", b"R", b"X"])])
    (count,) = found.partitions
    assert (count.received, count.ok, count.error, count.rejected, count.expired) == (4, 1, 1, 1, 1)
    assert found.violations(drained=True) == ()


def test_missing_and_duplicated_are_named():
    requests = [(1, offset, OLD) for offset in range(100, 110)]
    results = [result(1, offset) for offset in range(100, 110) if offset != 104] + [result(1, 107)]
    found = report(requests, results)
    assert found.partitions[0].missing == OffsetList(1, (104,))
    assert found.partitions[0].duplicated == OffsetList(1, (107,))
    assert found.violations() == (
        "partition 1: 1 missing: offsets 104",
        "partition 1: 1 duplicated: offsets 107",
    )


def test_young_requests_are_in_flight_and_only_drained_minds():
    found = report([(0, 0, OLD), (0, 1, YOUNG)], [result(0, 0)])
    assert found.partitions[0].in_flight == OffsetList(1, (1,))
    assert found.violations() == ()
    assert found.violations(drained=True) == ("partition 0: 1 in_flight: offsets 1",)


def test_gaps_are_no_requests_and_a_result_for_one_is_an_orphan():
    requests = [(0, 3, OLD), (0, 7, OLD)]
    assert report(requests, [result(0, 3), result(0, 7)]).violations(drained=True) == ()
    found = report(requests, [result(0, 3), result(0, 5), result(0, 7)])
    assert found.partitions[0].orphaned == OffsetList(1, (5,))
    assert found.violations() == ("partition 0: 1 orphaned: offsets 5",)


def test_results_outside_of_what_was_read_are_not_judged():
    assert report([(0, 3, OLD)], [result(0, 1), result(0, 3), result(0, 4)]).violations(drained=True) == ()


def test_first_result_decides_and_reaped_is_apart():
    found = report([(0, 0, OLD), (0, 1, OLD)], [result(0, 0, b"X", reaped=True), result(0, 0, b"O"), result(0, 1)])
    (count,) = found.partitions
    assert (count.ok, count.expired, count.reaped, count.duplicated) == (1, 1, OffsetList(1, (0,)), OffsetList(1, (0,)))


def test_foreign_and_unreadable_results_are_apart():
    results = [result(0, 0), result(0, 0, topic_id=b"z" * 16), [], [("isos-source", b"short"), ("isos-status", b"O")]]
    found = report([(0, 0, OLD)], results)
    assert (found.foreign, found.unreadable, found.total("duplicated")) == (1, 2, 0)
    assert found.violations() == ("2 results without a readable isos-source header",)


def test_unknown_status_is_unreadable():
    assert report([(0, 0, OLD)], [result(0, 0, b"?")]).unreadable == 1


def test_lists_are_bounded():
    found = report([(0, offset, OLD) for offset in range(1000)], [])
    assert found.partitions[0].missing == OffsetList(1000, tuple(range(MAX_LISTED)))
    assert found.violations()[0].endswith("and 980 more")


def test_empty_partition_is_listed():
    ledger = LedgerFold(TOPIC_ID)
    ledger.add_partition(2)
    (count,) = ledger.report(now_ms=NOW_MS, max_age_ms=AGE_MS).partitions
    assert (count.partition, count.received) == (2, 0)


def test_chunks_join(monkeypatch):
    monkeypatch.setattr("streams.ledger._CHUNK", 7)
    requests = [(p, offset, OLD) for offset in range(0, 100, 3) for p in (0, 1)]
    results = [result(p, offset) for p, offset, _ in requests] + [result(1, 30)]
    found = report(requests, results)
    assert found.total("ok") == len(requests)
    assert found.violations() == ("partition 1: 1 duplicated: offsets 30",)


requests_of = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)
results_of = st.lists(st.tuples(st.integers(0, 45), st.sampled_from(b"OERX"), st.booleans()), max_size=80)


@settings(max_examples=200)
@given(base=st.integers(0, 2**40), present=requests_of, answers=results_of)
def test_equals_a_plain_model(base, present, answers):
    stamps = {base + i: (YOUNG if young else OLD) for i, (here, young) in enumerate(present) if here}
    results = [(base + i, bytes([letter]), reaped) for i, letter, reaped in answers]
    found = report(
        [(0, offset, stamp) for offset, stamp in stamps.items()],
        [result(0, offset, letter, reaped=reaped) for offset, letter, reaped in results],
    )
    if not stamps:
        assert found.total("received") == 0
        return
    inside = [r for r in results if min(stamps) <= r[0] <= max(stamps)]
    times = Counter(offset for offset, _, _ in inside)
    first = {offset: (letter, reaped) for offset, letter, reaped in reversed(inside)}
    expected = {
        "received": len(stamps),
        "missing": sum(o not in times and stamp == OLD for o, stamp in stamps.items()),
        "in_flight": sum(o not in times and stamp == YOUNG for o, stamp in stamps.items()),
        "duplicated": sum(times[o] > 1 for o in stamps),
        "orphaned": sum(o not in stamps for o in times),
        "reaped": sum(o in first and first[o][1] for o in stamps),
        "ok": sum(o in first and first[o][0] == b"O" for o in stamps),
        "expired": sum(o in first and first[o][0] == b"X" for o in stamps),
    }
    assert {name: found.total(name) for name in expected} == expected
    outcomes = ("ok", "error", "rejected", "expired", "in_flight", "missing")
    assert found.total("received") == sum(found.total(name) for name in outcomes)


def test_the_source_of_a_result() -> None:
    assert source_of([("other", b""), (SOURCE_HEADER, SOURCE.pack(bytes(16), 3, 1 << 40))]) == (bytes(16), 3, 1 << 40)


@pytest.mark.parametrize("headers", [[], [("other", bytes(28))], [(SOURCE_HEADER, b"short")], [(SOURCE_HEADER, None)]])
def test_results_without_a_source(headers: list[tuple[str, bytes | None]]) -> None:
    assert source_of(headers) is None
