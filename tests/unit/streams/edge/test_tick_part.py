"""A part of a tick: columns become rows only where something is said of them."""

from __future__ import annotations

import numpy as np
from aiokafka import TopicPartition

from streams.columns import REJECTED
from streams.committed import Progress
from streams.edge.request_ids import Span
from streams.edge.request_row import blank_row
from streams.edge.tick_part import TickPart
from tests.support.charges import each_of
from tests.support.fake_kafka import record
from tests.unit.streams.edge.test_screen import batch_of, request


def part() -> TickPart:
    """Three columns; the one in the middle became a row that was refused."""
    batch = batch_of(request(), request(), request())
    batch.rows[1] = (blank_row(record(b"", 1, time_ms=1_000), 0), False)
    batch.rows[1][0].tenant = "acme"
    batch.signature[1] = -1
    return TickPart.of(Progress(TopicPartition("t", 0), 1), batch, Span(0, 3))


def test_rows_have_passed_as_they_say_and_columns_have() -> None:
    made = part()
    assert made.passed.tolist() == [True, False, True]
    assert made.columnar().tolist() == [0, 2]


def test_a_refused_column_becomes_a_row_that_ended() -> None:
    made = part()
    made.refuse(2, "overloaded", "too much", 70)
    row = made.rows[2]
    assert row.error is not None
    assert (row.status, row.error.code, row.error.message, row.error.retry_after_ms) == (
        *(REJECTED, "overloaded", "too much", 70),
    )
    assert (row.offset, row.request_id, row.blocks) == (2, b"r2", ())
    assert made.row(2) is row
    assert made.columnar().tolist() == [0]
    assert made.passed.tolist() == [True, False, False]


def test_each_request_is_charged_to_its_tenant() -> None:
    charged = each_of(part().charges(np.arange(3)))
    assert sorted((each.offset, each.tenant) for each in charged) == [(0, "default"), (1, "acme"), (2, "default")]
