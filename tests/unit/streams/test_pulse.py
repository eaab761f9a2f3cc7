"""Heartbeats go out whatever else fails; a telemetry window counts what was answered in it."""

from __future__ import annotations

import asyncio
import functools
import os
from dataclasses import replace

from aiokafka.errors import KafkaConnectionError

from schemas.frame import RowError
from schemas.telemetry import LATENCY_BOUNDS_MS, Heartbeat, LoadedModel, RouterLoad, Telemetry
from streams.check_id import TENANT
from streams.codec import Codec, SchemaIds
from streams.columns import Columns, segment_starts
from streams.pulse import MOST_NOTED, Pulse, TelemetryWindow
from streams.topics import full_name
from tests.support.fake_kafka import FakeProducer, turns, until
from tests.support.frames import T, executed, frame, random_frame, row

CODEC = Codec(SchemaIds.local())


def test_a_window_counts_rows_outcomes_and_time() -> None:
    window = TelemetryWindow(started_us=T)
    window.add(executed(3), T + 1000)  # received 1,000 us before T
    errors = (RowError(1, "lost", "x"),)
    window.add(replace(executed(2, first=200), statuses=bytes([1, 2]), errors=errors), T + 4000)
    record = window.close("validator", 1, 7)
    assert (record.stage, record.instance, record.window_start_us, record.num_frames, record.queue_depth) == (
        *("validator", 1, T, 2, 7),
    )
    (model,) = record.models
    counts = (0, 3, 0, 0, 1)  # three OK rows within 2 ms, one within 5 ms; the row in error is no latency
    assert list(vars_of(model).values()) == ["digits", "v1.0.0", 5, 4, 1, 0, 0, 3 * 2000 + 2 * 5000, 5000, counts]
    again = window.close("validator", 1, 0)
    assert (again.num_frames, again.models) == (0, ())
    assert again.window_start_us == record.window_start_us + record.window_us


def test_a_window_of_many_frames_counts_each_model_by_itself() -> None:
    window = TelemetryWindow()
    expected: dict[tuple[str, str], list[int]] = {}
    in_time: dict[tuple[str, str], list[int]] = {}
    for seed in range(MOST_NOTED + 40):  # counted once before the close
        made = random_frame(seed)
        ended = replace(made, statuses=bytes([max(status, 1) for status in made.statuses]))
        window.add(ended, T + seed)
        columns, starts = Columns.of(ended), segment_starts(ended)
        for number, segment in enumerate(ended.segments):
            count = expected.setdefault((segment.model, segment.version), [0] * 7)
            for at in range(starts[number], starts[number + 1]):
                spent = T + seed - int(columns.received_us[at])
                count[0] += 1
                count[int(columns.statuses[at])] += 1
                count[5], count[6] = count[5] + spent, max(count[6], spent)
                if columns.statuses[at] == 1:
                    in_time.setdefault((segment.model, segment.version), []).append(spent)
    models = window.close("v", 0, 0).models
    assert {(each.model, each.version): list(vars_of(each).values())[2:-1] for each in models} == expected
    for each in models:
        spent_us = in_time.get((each.model, each.version), [])
        assert sum(each.latency_counts) == len(spent_us) == each.num_ok
        for at, bound in enumerate(LATENCY_BOUNDS_MS):
            assert sum(each.latency_counts[: at + 1]) == sum(spent <= bound * 1000 for spent in spent_us)


def test_latencies_at_and_beside_the_bounds() -> None:
    window = TelemetryWindow()
    first, last = LATENCY_BOUNDS_MS[0] * 1000, LATENCY_BOUNDS_MS[-1] * 1000
    for spent in (-5, 0, first, first + 1, last, last + 1, 10 * last):
        window.add(executed(1), T - 1000 + spent)
    (model,) = window.close("validator", 0, 0).models
    assert model.latency_counts == (3, 1, *[0] * (len(LATENCY_BOUNDS_MS) - 3), 1, 2)
    assert window.close("validator", 0, 0).models == ()


def test_outputs_that_failed_the_gate_are_told_by_version() -> None:
    window = TelemetryWindow()
    wrong = tuple(RowError(row, "output_invalid" if row else "execution_failed", "x") for row in (0, 1, 2))
    window.add(replace(executed(3), statuses=bytes([2, 2, 2]), errors=wrong), T)
    faults = window.close_faults(3)
    assert faults is not None
    assert (faults.stage, faults.instance, len(faults.models)) == ("gate", 3, 1)
    assert list(vars_of(faults.models[0]).values()) == ["digits", "v1.0.0", 2, 0, 2, 0, 0, 0, 0, ()]
    assert window.close_faults(3) is None
    assert window.close("validator", 3, 0).models[0].num_error == 3


def test_rows_of_checks_are_in_no_window() -> None:
    window = TelemetryWindow()
    rows = [row(1), row(2, tenant=TENANT), row(3), row(4, model="other", tenant=TENANT)]
    wrong = (RowError(0, "output_invalid", "x"), RowError(1, "output_invalid", "x"))
    window.add(replace(frame(rows), statuses=bytes([2, 2, 1, 2]), errors=wrong), T)
    window.add(replace(frame([row(9, tenant=TENANT)]), statuses=bytes([1])), T)
    faults = window.close_faults(0)
    assert faults is not None
    assert [(each.model, each.num_error) for each in faults.models] == [("digits", 1)]
    record = window.close("validator", 0, 0)
    assert record.num_frames == 2
    assert [list(vars_of(each).values())[:7] for each in record.models] == [["digits", "", 2, 1, 1, 0, 0]]
    window.add(replace(frame([row(9, tenant=TENANT)]), statuses=bytes([1])), T)
    assert window.close("validator", 0, 0).models == ()


def vars_of(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}  # type: ignore[attr-defined]


async def test_a_beat_says_who_is_alive_and_what_it_holds() -> None:
    producer, held = FakeProducer(), (LoadedModel("digits", "v1.0.0", "ab", "CPU", 1.0, 2.0),)
    window = TelemetryWindow()
    close = functools.partial(window.close, "executor", 2, 0)
    pulse = Pulse(producer, CODEC, "executor", 2, lambda: 41, models=lambda: held, windows=(close, lambda: None))
    await pulse._beat()
    heartbeat, telemetry = producer.sent
    beat: Heartbeat = CODEC.decode("control.heartbeats", heartbeat.value)
    assert (beat.role, beat.instance, beat.pid, beat.memory_sequence, beat.models) == (
        "executor",
        2,
        os.getpid(),
        41,
        held,
    )
    assert (heartbeat.topic, heartbeat.key) == (full_name("control.heartbeats"), b"executor-2")
    assert isinstance(CODEC.decode("control.telemetry", telemetry.value), Telemetry)


async def test_a_beat_tells_what_else_there_is() -> None:
    producer, load = FakeProducer(), RouterLoad("digits", 5.0, 0, 9)
    pulse = Pulse(producer, CODEC, "router", 1, lambda: 0, more=lambda now_us: [("control.load", load)] * (now_us > T))
    await pulse._beat()
    _, told = producer.sent
    assert (told.topic, told.key) == (full_name("control.load"), b"router-1")
    assert CODEC.decode("control.load", told.value) == load


async def test_a_beat_that_cannot_be_sent_ends_nothing() -> None:
    producer = FakeProducer(error=KafkaConnectionError())
    task = asyncio.ensure_future(Pulse(producer, CODEC, "edge", 0, lambda: 0).run())
    await turns()
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    producer.error = None
    task = asyncio.ensure_future(Pulse(producer, CODEC, "edge", 0, lambda: 0).run())
    await until(lambda: producer.sent)
    task.cancel()
    await asyncio.wait({task})
