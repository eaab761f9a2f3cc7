"""Columns of records: what is read from batches, made of records, and joined."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.record_columns import (
    HEADERS_END,
    KEY,
    KEY_END,
    VALUE_END,
    Record,
    RecordColumns,
    batch_end,
    columns_of,
    read_batches,
)
from tests.support.record_batches import record_batches

TOPIC = "t"
SMALL = st.one_of(st.none(), st.binary(max_size=9))


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    offset, records = draw(st.integers(0, 1 << 40)), []
    for _ in range(draw(st.integers(1, 12))):
        offset += draw(st.sampled_from((1, 1, 1, 2, 90)))
        headers = tuple(draw(st.lists(st.tuples(st.text(max_size=4), SMALL), max_size=3)))
        at_ms = 1_700_000_000_000 + draw(st.integers(-5000, 5000))
        records.append(Record(TOPIC, 3, offset, at_ms, draw(SMALL), draw(SMALL), headers))
    return records


def records_of(columns: RecordColumns) -> list[Record]:
    return [columns.record(at) for at in range(len(columns))]


@settings(max_examples=60, deadline=None)
@given(logs(), st.lists(st.integers(0, 12), max_size=3), st.integers(0, 14))
def test_records_come_out_of_batches_as_they_went_in(records: list[Record], cuts: list[int], skipped: int) -> None:
    bounds = sorted({0, len(records), *[min(cut, len(records)) for cut in cuts]})
    batches = [records[a:b] for a, b in pairwise(bounds)]
    data = b"".join([record_batches(batch, append_time=False) for batch in batches]) + b"\0" * 7  # and a cut-off one
    first = records[min(skipped, len(batches[0]) - 1)].offset  # a broker sends whole batches
    columns, at, next_offset = read_batches(TOPIC, 3, data, 0, len(data), first, 100)
    assert columns is not None
    assert records_of(columns) == [each for each in records if each.offset >= first]
    assert (columns.first, columns.end) == (first, records[-1].offset + 1)
    assert (at, next_offset) == (len(data) - 7, records[-1].offset + 1)


@settings(max_examples=60, deadline=None)
@given(logs(), logs())
def test_columns_of_records_and_columns_joined_hold_the_same_records(a: list[Record], b: list[Record]) -> None:
    assert records_of(columns_of(TOPIC, 3, a)) == a
    pieces = [RecordColumns.of(TOPIC, 3, part) for part in (a, b)]
    assert records_of(columns_of(TOPIC, 3, pieces)) == a + b


def test_the_brokers_time_is_that_of_the_whole_batch() -> None:
    records = [Record(TOPIC, 0, n, 1000 + n, None, b"v", ()) for n in range(3)]
    columns, _, _ = read_batches(TOPIC, 0, record_batches(records), 0, 1 << 20, 0, 100)
    assert columns is not None
    assert [each.timestamp for each in records_of(columns)] == [1002] * 3


def test_a_batch_is_never_divided_and_the_first_is_always_read() -> None:
    records = [Record(TOPIC, 0, n, 1000, None, b"v", ()) for n in range(9)]
    data = b"".join([record_batches(records[at : at + 3]) for at in (0, 3, 6)])
    size = len(data) // 3
    for most, batches in ((1, 1), (3, 1), (5, 1), (6, 2), (100, 3)):
        columns, at, next_offset = read_batches(TOPIC, 0, data, 0, len(data), 0, most)
        assert (len(columns or ()), at, next_offset) == (3 * batches, size * batches, 3 * batches)


@pytest.mark.parametrize(
    "kind", [{"compression": 1}, {"transactional": True, "producer_id": 4}, {"attributes": 0x20}], ids=str
)
def test_batches_that_are_not_plain_are_left_to_others(kind: dict[str, int]) -> None:
    records = [Record(TOPIC, 0, n, 1000, None, bytes(99), ()) for n in range(3)]
    plain, other = record_batches(records), record_batches(records, **kind)  # type: ignore[arg-type]
    assert read_batches(TOPIC, 0, other + plain, 0, 1 << 20, 0, 100) == (None, 0, 0)
    columns, at, _ = read_batches(TOPIC, 0, plain + other, 0, len(plain + other), 0, 100)
    assert (len(columns or ()), at) == (3, len(plain))


def test_spoiled_batches_are_left_or_read_within_their_bounds() -> None:
    """No byte makes the reader look beyond the data; what it cannot follow stays for the library to refuse."""
    rng = random.Random(5)
    records = [Record(TOPIC, 0, n, 1000, b"k", b"value", (("h", b"x"), ("i", None))) for n in range(4)]
    good = record_batches(records)
    num_left = 0
    for _ in range(4000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        columns, at, _ = read_batches(TOPIC, 0, bytes(data), 0, len(data), 0, 100)
        assert 0 <= at <= len(data)
        num_left += at == 0
        if columns is not None:
            spans = columns.table[KEY:]
            assert ((spans >= -1) & (spans <= len(data))).all()
            for end in (KEY_END, VALUE_END, HEADERS_END):
                assert (columns.table[end] >= columns.table[end - 1]).all()
    assert num_left > 1000


def test_a_headers_name_that_is_no_text_stops_nobody() -> None:
    data = record_batches([Record(TOPIC, 0, 0, 1000, None, b"v", (("name", b"x"),))]).replace(b"name", b"n\xffme")
    columns, _, _ = read_batches(TOPIC, 0, data, 0, len(data), 0, 100)
    assert columns is not None
    assert columns.record(0).headers == (("n\\xffme", b"x"),)


def test_where_a_batch_ends() -> None:
    batch = record_batches([Record(TOPIC, 0, 0, 1000, None, b"v", ())])
    assert batch_end(batch + batch, len(batch)) == 2 * len(batch)
    assert batch_end(batch, 1) == batch_end(batch[:-1], 0) == batch_end(batch[:11], 0) == -1
