"""Rows that the cache answered, counted like those that ran: inputs and answers, of clients only, bounded."""

from __future__ import annotations

import numpy as np

from executors.cached_rows import CachedRows
from executors.reference import make_reference
from executors.statistics import BURST, ROWS_PER_S, RowStatistics, VersionTally
from schemas.frame import InferenceFrame, RowError
from schemas.statistics import VersionStatistics
from streams.cache.lookup import Asked, LookedUp, Lookup
from streams.cache.values import Entry
from streams.check_id import TENANT
from streams.columns import REJECTED, num_rows, segment_starts
from streams.key_order import ended_before
from tests.support.cached import entry
from tests.support.frames import MODEL, T, frame, row, with_blob

SECOND = 1_000_000
INPUTS = np.repeat(np.arange(100, dtype=np.float32)[:, None], 2, axis=1)
REFERENCE = make_reference(MODEL, [({"x": INPUTS}, {"y": np.repeat(INPUTS[:, :1], 3, axis=1)})], "")


def rows_of(*versions: str) -> CachedRows:
    made = CachedRows(RowStatistics("router-2", T))
    for version in versions:
        made.rows.watched["digits", version] = VersionTally(REFERENCE, "id")
    return made


def looked_up(built: InferenceFrame, entries: list[Entry | None]) -> LookedUp:
    """One answer or none per row, by v1.0.0."""
    starts = segment_starts(built)
    asked = [
        Asked(number, segment.model, "v1.0.0", tuple(range(segment.num_rows)), (bytes(32),) * segment.num_rows, 60)
        for number, segment in enumerate(built.segments)
    ]
    parts = tuple(tuple(entries[starts[at] : starts[at + 1]]) for at in range(len(asked)))
    return LookedUp(Lookup(tuple(asked), bytes(16 * num_rows(built))), parts)


def window_of(rows: CachedRows) -> VersionStatistics:
    (made,) = rows.rows.close(T + SECOND)
    return made


def values(made: VersionStatistics, measure: int) -> list[int]:
    """Which bins have a row."""
    return [at for at, count in enumerate(made.measures[measure].bins) for _ in range(count)]


def test_rows_with_an_answer_count_with_all_their_items_and_others_do_not() -> None:
    rows = rows_of("v1.0.0")
    built = frame([row(5, items=2), row(15), row(25, model="other"), row(95)])
    rows.note(built, looked_up(built, [entry(35.0, items=2), None, entry(55.0), entry(1.0)]), T)
    made = window_of(rows)
    assert (made.executor, made.version, made.num_rows, made.num_sampled) == ("router-2", "v1.0.0", 3, 3)
    names = [measure.name for measure in REFERENCE.measures]
    assert values(made, names.index("x[0]")) == [0, 0, 9]
    assert values(made, names.index("y.largest")) == [3, 3, 5]


def test_rows_of_checks_and_those_in_a_blob_are_left_out() -> None:
    rows = rows_of("v1.0.0")
    built = frame([row(5, tenant=TENANT), row(15)])
    rows.note(built, looked_up(built, [entry(), entry()]), T)
    blob = frame([with_blob(row(25))])
    rows.note(blob, looked_up(blob, [entry()]), T)
    made = window_of(rows)
    assert (made.num_rows, values(made, 0)) == (1, [1])


def test_rows_that_ended_before_have_no_part_in_it() -> None:
    """What was asked is numbered without them: a refused row of an unknown model, with a key, has no block at all."""
    rows = rows_of("v1.0.0")
    refused = row(1, model="nobody", routing_key="a")
    refused.status, refused.error = REJECTED, RowError(0, "unknown_model", "nobody knows it", 0)
    refused.items, refused.blocks = 0, ()
    built = frame([refused, row(5, items=2), row(15), row(25)])
    left = ended_before(built)[0]
    assert left is not None
    assert [each.model for each in built.segments] == ["nobody", "digits"]
    rows.note(built, looked_up(left, [entry(items=2), entry(), entry()]), T)
    rows.note(frame([refused]), LookedUp(Lookup((), b""), ()), T)
    made = window_of(rows)
    assert (made.num_rows, values(made, 0)) == (4, [0, 0, 1, 2])


def test_without_a_reference_nothing_is_looked_at() -> None:
    built = frame([row(5)])
    for rows in (rows_of(), rows_of("v2.0.0")):
        rows.note(built, looked_up(built, [entry()]), T)
        assert list(rows.rows.close(T + SECOND)) == []


def test_of_many_rows_some_are_looked_at_evenly() -> None:
    rows = rows_of("v1.0.0")
    built = frame([row(at % 100) for at in range(100)])
    for tick in range(100):  # 10,000 rows in a second
        rows.note(built, looked_up(built, [entry(float(at)) for at in range(100)]), T + tick * SECOND // 100)
    made = window_of(rows)
    assert made.num_rows == 10_000
    assert 0.9 * ROWS_PER_S <= made.num_sampled <= ROWS_PER_S + BURST
    bins = made.measures[0].bins
    assert max(bins) - min(bins) <= 0.2 * sum(bins)
