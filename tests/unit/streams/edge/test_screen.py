"""Which requests are refused: rows and columns alike, one by one where it is close, none where nothing waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.admission import AdmissionPolicy, admit
from schemas.request import InferenceRequest, Tensor
from streams.codec import Codec, SchemaIds
from streams.edge.forecast import Forecast
from streams.edge.request_batch import RequestBatch
from streams.edge.request_reader import RequestReader
from streams.edge.screen import MIN_RETRY_MS, TooLate, too_late
from streams.edge.service import FORGET_US
from streams.frame_builder import Row
from streams.record_columns import RecordColumns
from tests.support.fake_kafka import record
from tests.support.frames import MODEL, memory
from tests.unit.streams.edge.test_forecast import forecast, queue, service, version
from tests.unit.streams.edge.test_forecast import load as report

CODEC = Codec(SchemaIds.local())
OTHER = replace(MODEL, model="other")
VIEW = memory(MODEL, OTHER)
NOW_MS = 1_000
NOW = NOW_MS * 1000


class Met(dict[tuple[bytes, ...], None]):
    """Every signature counts as met before."""

    def __contains__(self, _: object) -> bool:
        return True


def request(model: str = "digits", *, items: int = 1, priority: int = 5, timeout_ms: int = 100) -> InferenceRequest:
    tensor = Tensor("x", "FP32", (items, 2), bytes(8 * items))
    return InferenceRequest("r", model, (tensor,), priority=priority, timeout_ms=timeout_ms)


def batch_of(*made: InferenceRequest) -> RequestBatch:
    """They all came just now."""
    values = [CODEC.encode("inference.requests", replace(each, request_id=f"r{at}")) for at, each in enumerate(made)]
    columns = RecordColumns.of("t", 0, [record(value, at, time_ms=NOW_MS) for at, value in enumerate(values)])
    reader = RequestReader(CODEC, lambda each: admit(each, VIEW, AdmissionPolicy()), None, lambda: 1)
    reader._signatures._met = Met()
    return asyncio.run(reader.batch(columns, 0, [], 1 << 20))


def known(*waiting: int, model: str = "digits") -> Forecast:
    """A queue of priority 5 for a version that takes 5 ms for four items."""
    made = Forecast()
    made.take(report(version(model, queue(*waiting)), sent_us=NOW, newest_us=NOW), NOW)
    return made


def screened(batch: RequestBatch, made: Forecast, rows: tuple[int, ...] = ()) -> list[TooLate]:
    """With some of the requests as rows."""
    as_rows: dict[int, Row] = {at: row for at, (row, _) in batch.rows.items()}
    as_rows |= {at: batch.row(at) for at in rows}
    return too_late(batch, np.ones(len(batch), np.bool_), as_rows, made, NOW)


def sent(made: Forecast) -> dict[int, int]:
    """Items counted as admitted, by priority."""
    return {priority: each.num_items for priority, each in service(made, now_us=NOW).sent.items() if each.num_items}


def test_nothing_is_refused_where_nothing_is_known() -> None:
    assert screened(batch_of(request(), request("other")), Forecast()) == []
    assert screened(batch_of(request("other")), known(8000)) == []


def test_nothing_is_refused_where_nothing_waits() -> None:
    made = known()
    assert screened(batch_of(*[request() for _ in range(8)]), made) == []
    assert sent(made) == {5: 8}


def test_a_row_whose_budget_is_shorter_than_its_batch_is_not_our_business() -> None:
    assert screened(batch_of(request(timeout_ms=1)), known()) == []


def test_what_would_be_late_is_refused_with_reason_and_time() -> None:
    made = known(400)  # 500 ms
    first, second = screened(batch_of(request(), request()), made)
    assert (first.at, second.at) == (0, 1)
    assert first.message == "digits v1.0.0 would be done with it in about 546 ms, and 100 ms are left"
    assert 446 <= first.retry_after_ms <= 446 * 1.5
    assert first.retry_after_ms != second.retry_after_ms, "they shall not come back together"
    assert sent(made) == {}


def test_a_tick_is_cut_where_its_rows_begin_to_be_late() -> None:
    made = known()
    refused = screened(batch_of(*[request(timeout_ms=100) for _ in range(200)]), made)
    assert [each.at for each in refused] == list(range(refused[0].at, 200))
    assert sent(made) == {5: refused[0].at}
    assert 60 <= refused[0].at <= 72  # 100 ms of 5 ms for four, less the margins
    assert all(each.retry_after_ms >= MIN_RETRY_MS for each in refused)


def test_a_row_too_short_of_time_holds_no_place_for_others() -> None:
    made = known(40)  # 50 ms
    rows = [request(timeout_ms=40, items=4) for _ in range(20)]
    assert [each.at for each in screened(batch_of(*rows, request(timeout_ms=200)), made)] == list(range(20))


def test_urgent_rows_are_asked_first_wherever_they_stand() -> None:
    made = known()
    refused = screened(batch_of(*[request(priority=5) for _ in range(100)], *[request(priority=0)] * 40), made)
    assert not [each for each in refused if each.at >= 100]
    assert sent(made)[0] == 40
    assert 20 <= sent(made)[5] <= 32


def test_other_models_are_not_touched() -> None:
    made = known(8000)
    made.take(report(version("other"), executor="executor-1", sent_us=NOW, newest_us=NOW), NOW)
    assert [each.at for each in screened(batch_of(request("other"), request(), request("other")), made)] == [1]


def test_those_that_have_not_passed_are_neither_asked_nor_counted() -> None:
    batch, made = batch_of(request(), request(), request()), known()
    passed = np.array([True, False, True])
    assert too_late(batch, passed, {2: batch.row(2)}, made, NOW) == []
    assert sent(made) == {5: 2}
    late = known(8000)
    assert [each.at for each in too_late(batch, passed, {2: batch.row(2)}, late, NOW)] == [0, 2]


def test_an_old_report_refuses_nobody() -> None:
    batch, made = batch_of(request()), known(8000)
    later = NOW + FORGET_US + 1
    assert too_late(batch, np.ones(1, np.bool_), {}, made, later) == []


REQUESTS = st.lists(
    st.builds(
        request,
        st.sampled_from(("digits", "digits", "other")),
        items=st.integers(1, 3),
        priority=st.sampled_from((0, 5, 9)),
        timeout_ms=st.sampled_from((30, 100)),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(REQUESTS, st.sets(st.integers(0, 39)), st.integers(0, 120))
@example(
    [request(timeout_ms=30), request(), request(items=2, priority=0, timeout_ms=30)]
    + [request(priority=0, timeout_ms=30) for _ in range(7)],
    {0},
    2,
)
def test_rows_and_columns_are_judged_alike(made: list[InferenceRequest], rows: set[int], waiting: int) -> None:
    batch = batch_of(*made)
    columns, mixed = known(waiting), known(waiting)
    chosen = tuple(at for at in rows if at < len(made))
    in_columns, in_rows = screened(batch, columns), screened(batch, mixed, chosen)
    assert sorted(in_columns) == sorted(in_rows)
    assert sent(columns) == sent(mixed)


@settings(max_examples=60)
@given(REQUESTS, st.integers(0, 120))
def test_a_tick_is_judged_as_its_rows_would_be_one_by_one(made: list[InferenceRequest], waiting: int) -> None:
    made = [replace(each, timeout_ms=100, inputs=request(items=2).inputs) for each in made]
    together, alone = known(waiting), known(waiting)
    refused = {each.at for each in screened(batch_of(*made), together)}
    one_by_one = set()
    for at in sorted(range(len(made)), key=lambda at: (made[at].priority, at)):
        if screened(batch_of(made[at]), alone):
            one_by_one.add(at)
    assert refused == one_by_one
    assert sent(together) == sent(alone)


def test_the_services_of_two_models_do_not_mix() -> None:
    made = forecast(version("digits"), version("other"))
    made.take(report(version("digits"), version("other"), sent_us=NOW, newest_us=NOW), NOW)
    batch = batch_of(request(), request("other"), request("other", items=3))
    assert screened(batch, made) == []
    assert {name: service(made, name, now_us=NOW).sent[5].num_items for name in ("digits", "other")} == {
        "digits": 1,
        "other": 4,
    }
