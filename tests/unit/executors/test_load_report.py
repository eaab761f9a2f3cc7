"""Reports of an executor's load: what waits, by version and priority; silent when there is nothing to say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from executors import load_report
from executors.batcher import Batcher
from executors.lines import Lines
from executors.load_report import TOPIC, LoadReport, send_reports
from executors.profile import Profile
from executors.row_slice import RowSlice
from schemas.frame import InferenceFrame
from schemas.load import ExecutorLoad, VersionLoad
from streams.codec import Codec, SchemaIds
from streams.columns import HEDGE
from streams.topics import full_name
from tests.support.fake_kafka import FakeProducer, until
from tests.support.frames import T, frame, row
from tests.unit.executors.test_batcher import add, key

SHORT = Profile(100.0, 10.0, 8)
LONG = Profile(1000.0, 1000.0, 4)
PROFILES = {("m", "v1.0.0"): SHORT, ("slow", "v1.0.0"): LONG}


def taken(model: str = "m", num_rows: int = 3, now_us: int = T) -> InferenceFrame:
    return frame([row(at, model=model, version="v1.0.0") for at in range(num_rows)], now_us=now_us)


def reporter() -> LoadReport:
    return LoadReport("executor-0", 2, 2_000.0)


def made(
    report: LoadReport,
    batcher: Batcher,
    late: dict[tuple[str, str], int] | None = None,
    lines: Lines | None = None,
    **running_us: float,
) -> ExecutorLoad | None:
    queues: Any = SimpleNamespace(batcher=batcher, lines=lines or Lines(), num_late=late or {})
    return report.make(queues, PROFILES, {(model, "v1.0.0"): left for model, left in running_us.items()}, T + 9)


def test_nothing_is_said_while_there_is_nothing() -> None:
    report = reporter()
    assert made(report, Batcher()) is None
    report.took(taken())
    assert made(report, Batcher()) is not None
    assert made(report, Batcher()) is None


def test_what_was_taken_is_said_though_it_is_done() -> None:
    report = reporter()
    report.took(taken(now_us=T + 5))
    report.took(taken(now_us=T + 2))
    found = made(report, Batcher())
    assert found == ExecutorLoad(
        "executor-0", T + 9, T + 5, 2, (VersionLoad("m", "v1.0.0", 100.0, 10.0, 8, False, 0.0, 6, 0, ()),)
    )


def test_what_waits_is_said_by_version_and_priority() -> None:
    report, batcher = reporter(), Batcher()
    add(batcher, items=(1, 2, 3), priorities=(2, 2, 5))
    add(batcher, items=(4,), priorities=(2,))
    add(batcher, "slow", items=(1, 1))
    found = made(report, batcher)
    assert found is not None
    assert {each.model: each.waiting_items for each in found.versions} == {
        "m": (0, 0, 7, 0, 0, 3),
        "slow": (0, 0, 0, 0, 0, 2),
    }
    assert {each.model: each.is_long for each in found.versions} == {"m": False, "slow": True}
    assert {each.model: each.max_batch_size for each in found.versions} == {"m": SHORT.cap, "slow": LONG.cap}


def test_rows_that_keep_order_wait_too() -> None:
    lines, batcher = Lines(), Batcher()
    rows = RowSlice("f", 0, 0, 3, 0, 5, 2, 0, T, [1, 1, 3], [T] * 3)
    lines.put(key("m"), rows)
    lines.put(key("m"), rows.part(0, 1))
    lines.reserve(key("slow"))
    lines.put(key("slow"), rows)
    found = made(reporter(), batcher, lines=lines)
    assert found is not None
    assert [(each.model, each.waiting_items) for each in found.versions] == [("m", (0, 0, 6))]


def test_what_was_late_is_said() -> None:
    report = reporter()
    report.took(taken())
    found = made(report, Batcher(), {("m", "v1.0.0"): 2})
    assert found is not None
    assert found.versions[0].num_late == 2


def test_the_end_of_a_queue_is_said_once() -> None:
    report, batcher = reporter(), Batcher()
    add(batcher)
    assert made(report, batcher) is not None
    assert made(report, batcher) is not None, "as long as something waits"
    batcher.next_batch(0, PROFILES)
    last = made(report, batcher)
    assert last is not None
    assert last.versions == ()
    assert made(report, batcher) is None


def test_what_is_left_of_a_batch_under_way_is_said() -> None:
    found = made(reporter(), Batcher(), slow=1500.0)
    assert found is not None
    (only,) = found.versions
    assert (only.running_us, only.is_long, only.waiting_items) == (1500.0, True, ())


def test_copies_of_rows_that_wait_elsewhere_do_not_count() -> None:
    report = reporter()
    report.took(replace(taken(), roles=bytes([HEDGE]) * 3))
    assert made(report, Batcher()) is None


def test_a_version_that_is_not_loaded_yet_has_no_service_time_to_speak_of() -> None:
    report, batcher = reporter(), Batcher()
    add(batcher, "loading")
    found = made(report, batcher)
    assert found is not None
    assert found.versions == ()


def test_a_clock_that_was_set_back_is_believed_again() -> None:
    report = reporter()
    report.took(taken(now_us=T + 10_000_000))
    made(report, Batcher())
    report.took(taken(now_us=T))
    found = made(report, Batcher())
    assert found is not None
    assert found.newest_us == T


async def test_reports_are_sent_and_a_failure_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_report, "INTERVAL_S", 0.001)
    codec, producer, report = Codec(SchemaIds.local()), FakeProducer(), reporter()
    producer.error = KafkaConnectionError()
    calls: list[int] = []

    def make(now_us: int) -> Any:
        calls.append(now_us)
        report.took(taken())
        return None if len(calls) % 2 else made(report, Batcher())

    running = asyncio.ensure_future(send_reports(producer, codec, make))  # type: ignore[arg-type]
    try:
        await until(lambda: len(calls) > 4)
        producer.error = None
        await until(lambda: len(producer.sent) > 1)
    finally:
        running.cancel()
        await asyncio.wait({running})
    first = producer.sent[0]
    assert (first.topic, first.key) == (full_name(TOPIC), b"executor-0")
    assert codec.decode(TOPIC, first.value).executor == "executor-0"
