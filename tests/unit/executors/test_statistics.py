"""What an executor counts of versions with a reference: bounded, evenly, and nothing of the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError

from executors.execution import Execution
from executors.statistics import BURST, ROWS_PER_S, TOPIC, RowStatistics, VersionTally, send_statistics
from schemas.memory import MemoryEntry
from schemas.reference import Reference
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.memory_view import MemoryView
from streams.references import reference_id
from streams.topics import full_name
from tests.support import drift
from tests.support.fake_kafka import FakeProducer, until
from tests.support.frames import T, frame, row
from tests.unit.executors.test_execution import FAR, Loaded, Session, work_of

REFERENCE = drift.reference(200)
SECOND = 1_000_000


def view_of(*references: Reference, sequence: int = 3) -> MemoryView:
    entries = {
        f"reference/{each.model}/{each.version}": MemoryEntry(
            f"reference/{each.model}/{each.version}", 1, sequence, to_json(each), 5
        )
        for each in references
    }
    return MemoryView(sequence, entries=MappingProxyType(entries))


def tally() -> VersionTally:
    return VersionTally(REFERENCE, "id")


def note(of: VersionTally, num_items: int, now_us: int) -> None:
    rows = drift.rows(num_items)
    of.note({"x": rows}, drift.answers(rows), None, num_items, now_us)


def test_few_rows_are_all_looked_at_and_many_evenly_at_most_so_many_a_second() -> None:
    few = tally()
    for second in range(100):
        note(few, 1, second * SECOND)
    assert (few.num_rows, few.num_sampled) == (100, 100)
    many = tally()
    for at in range(4_000):  # 10 s of 3,200 rows a second
        note(many, 8, T + at * 2_500)
    assert many.num_rows == 32_000
    assert 0.95 * 10 * ROWS_PER_S <= many.num_sampled <= 10 * ROWS_PER_S + BURST


def test_a_large_batch_is_looked_at_evenly() -> None:
    of = VersionTally(replace(REFERENCE, tensors=REFERENCE.tensors[:1]), "id")
    rows = drift.rows(128)
    rows[:64] = -50.0
    of.note({"x": rows}, {}, None, 128, T)
    window = of.take("executor-0", ("digits", "v1.0.0"), T, T + SECOND)
    assert window is not None
    assert (window.num_sampled, window.measures[0].num_below) == (BURST, BURST // 2)


def test_coalesced_items_count_as_often_as_they_came() -> None:
    of = tally()
    rows = np.stack([np.full(drift.WIDTH, -50.0, np.float32), drift.rows(1)[0]])
    places = np.array([0, 0, 0, 1, 0])
    of.note({"x": rows}, drift.answers(rows[places]), places, 5, T)
    window = of.take("executor-0", ("digits", "v1.0.0"), T, T + SECOND)
    assert window is not None
    assert (window.measures[0].num_below, sum(window.measures[0].bins)) == (4, 5)


def test_a_window_is_told_once_and_none_where_nothing_ran() -> None:
    rows = RowStatistics("executor-7", T)
    rows.learn(view_of(REFERENCE))
    note(rows.watched["digits", "v1.0.0"], 30, T)
    (window,) = rows.close(T + 5 * SECOND)
    assert (window.executor, window.model, window.version) == ("executor-7", "digits", "v1.0.0")
    assert (window.window_start_us, window.window_us) == (T, 5 * SECOND)
    assert (window.num_rows, window.num_sampled) == (30, 30)
    assert window.reference == reference_id(to_json(REFERENCE))
    assert window == replace(
        drift.told(REFERENCE, drift.rows(30), T + 5 * SECOND), executor="executor-7", num_rows=30, window_us=5 * SECOND
    )
    assert list(rows.close(T + 10 * SECOND)) == []


def test_references_are_followed_and_counting_begins_anew_with_another() -> None:
    rows = RowStatistics("executor-0", T)
    assert not rows.watched
    rows.learn(view_of(REFERENCE))
    first = rows.watched["digits", "v1.0.0"]
    rows.learn(view_of(REFERENCE, sequence=3))
    assert rows.watched["digits", "v1.0.0"] is first
    other = replace(REFERENCE, source="another")
    rows.learn(view_of(other, sequence=9))
    second = rows.watched["digits", "v1.0.0"]
    assert second is not first
    assert second.identity == reference_id(to_json(other))
    rows.learn(MemoryView(12))
    assert rows.watched == {}


def test_what_is_no_reference_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    entry = MemoryEntry("reference/digits/v1.0.0", 1, 3, "{}", 5)
    rows = RowStatistics("executor-0", T)
    rows.learn(MemoryView(3, entries=MappingProxyType({entry.key: entry})))
    assert rows.watched == {}
    assert "cannot be counted by" in caplog.text


@pytest.mark.parametrize("alone", [True, False])
def test_batches_of_an_execution_are_counted(alone: bool) -> None:
    run = Execution("executor-0", Loaded(**{"v1.0.0": Session()}), lambda size: None)
    seen: list[tuple[int, Any]] = []

    class Spy:
        def note(self, inputs: Any, outputs: Any, places: Any, num_items: int, now_us: int, items: Any) -> None:
            assert items is None
            seen.append((num_items, outputs["y"][0, 0]))

    run.statistics.watched["digits", "v1.0.0"] = Spy()  # type: ignore[assignment]
    work = work_of(frame([row(at, version="v1.0.0", deadline_us=FAR) for at in (3, 4)]))
    if alone:
        assert run.run_alone(work, T, 1e9)
    else:
        run.add(work, T)
        run.run_short(T, 1e9, 1e9, 1)
    assert (sum(num_items for num_items, _ in seen), seen[0][1]) == (2, 9.0)


async def test_windows_are_sent_and_what_cannot_be_sent_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    producer, codec, rows = FakeProducer(), Codec(SchemaIds.local()), RowStatistics("executor-0", T)
    producer.error = KafkaConnectionError()
    view = view_of(REFERENCE)
    running = asyncio.ensure_future(send_statistics(producer, codec, rows, lambda: view, 0.01))

    def fed() -> bool:
        if rows.watched:
            note(rows.watched["digits", "v1.0.0"], 5, T)
        return "were not sent" in caplog.text

    try:
        await until(fed)
        producer.error = None
        await until(lambda: not fed() or bool(producer.sent))
    finally:
        running.cancel()
        await asyncio.wait({running})
    first = producer.sent[0]
    assert (first.topic, first.key) == (full_name(TOPIC), b"digits/v1.0.0")
    assert codec.decode(TOPIC, first.value).num_rows % 5 == 0
