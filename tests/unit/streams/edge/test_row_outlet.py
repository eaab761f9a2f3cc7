"""Rows become frames on the topic that their end asks for, and hold their offsets until those are acknowledged."""

from __future__ import annotations

import time

from aiokafka import TopicPartition

from streams.codec import Codec, SchemaIds
from streams.columns import Columns
from streams.committed import CommittedConsumer
from streams.edge.request_row import end
from streams.edge.row_outlet import RowOutlet
from streams.edge.steering import Steering
from streams.lane_class import lane_of_frame
from streams.topics import full_name
from tests.support.fake_kafka import FakeConsumer, FakeProducer, turns
from tests.support.frames import TOPIC_ID, row
from tests.unit.streams.edge.test_steering import NAMES, report

CODEC = Codec(SchemaIds.local())
PLACE = TopicPartition("in", 2)


async def test_passed_and_ended_rows_part_ways_on_the_same_partition() -> None:
    producer, consumer = FakeProducer(automatic=False), FakeConsumer()
    source = CommittedConsumer(consumer, "in")  # type: ignore[arg-type]
    outlet = RowOutlet(source, producer, CODEC, lambda: 7, TOPIC_ID)  # type: ignore[arg-type]
    progress = source.progress(PLACE)
    entry = progress.window.start(3)
    rows = [row(0), row(1), row(2)]
    end(rows[1], "wrong_shape", "no")
    await outlet.send_rows(2, rows, [(progress, entry)])
    progress.finish(entry)
    assert [(each.topic, each.partition) for each in producer.sent] == [
        (full_name("inference.admitted"), 2),
        (full_name("inference.executed"), 2),
    ]
    frames = [
        CODEC.decode(name, each.value)
        for name, each in zip(("inference.admitted", "inference.executed"), producer.sent, strict=True)
    ]
    assert [Columns.of(frame).offsets.tolist() for frame in frames] == [[0, 2], [1]]
    assert {frame.memory_sequence for frame in frames} == {7}
    assert [frame.frame_id for frame in frames] == [0, 1]
    assert outlet.num_frames == 2
    producer.sent[0].future.set_result(None)
    await turns()
    assert progress.committable == -1
    producer.sent[1].future.set_result(None)
    await turns()
    assert progress.committable == 3


async def test_no_rows_are_no_frame() -> None:
    producer = FakeProducer()
    source = CommittedConsumer(FakeConsumer(), "in")  # type: ignore[arg-type]
    await RowOutlet(source, producer, CODEC, lambda: 0, TOPIC_ID).send_rows(0, [], [])  # type: ignore[arg-type]
    assert producer.sent == []


async def test_ended_rows_that_have_an_order_stay_with_the_others() -> None:
    producer = FakeProducer()
    source = CommittedConsumer(FakeConsumer(), "in")  # type: ignore[arg-type]
    outlet = RowOutlet(source, producer, CODEC, lambda: 7, TOPIC_ID, lambda: {"digits"})  # type: ignore[arg-type]
    rows = [row(0, routing_key="k"), row(1, routing_key="k"), row(2), row(3, model="other", routing_key="k")]
    rows += [row(4, model="nobody", routing_key="k"), row(5, routing_key="k")]
    for each, code in ((rows[1], "wrong_shape"), (rows[2], "wrong_shape"), (rows[3], "wrong_shape")):
        end(each, code, "no")
    end(rows[4], "unknown_model", "another edge may know it")
    await outlet.send_rows(2, rows, [])
    admitted, ended = [
        CODEC.decode(name, each.value)
        for name, each in zip(("inference.admitted", "inference.executed"), producer.sent, strict=True)
    ]
    assert Columns.of(admitted).offsets.tolist() == [0, 1, 4, 5]
    assert [error.code for error in admitted.errors] == ["wrong_shape", "unknown_model"]
    assert Columns.of(ended).offsets.tolist() == [2, 3]


async def test_numbers_that_would_lead_to_a_busy_executor_are_left_out() -> None:
    async def numbers(steering: Steering | None) -> list[int]:
        producer = FakeProducer()
        source = CommittedConsumer(FakeConsumer(), "in")  # type: ignore[arg-type]
        outlet = RowOutlet(source, producer, CODEC, lambda: 7, TOPIC_ID, steering=steering)  # type: ignore[arg-type]
        for number in range(9):
            await outlet.send_rows(2, [row(number)], [])
        assert outlet.num_frames == 9
        return [CODEC.decode("inference.admitted", each.value).frame_id for each in producer.sent]

    assert await numbers(None) == list(range(9))
    steering, now_us = Steering(lambda _model: NAMES), time.time_ns() // 1000
    steering.take(report("executor-0", 10, now_us), now_us)
    assert await numbers(steering) == list(range(9))
    steering.take(report("executor-1", 4_000, now_us), now_us)
    found = await numbers(steering)
    assert found == sorted(set(found))
    assert {lane_of_frame(NAMES, number) for number in found} == {0, 2}


async def test_each_frame_of_a_tick_goes_to_who_has_least_to_do_by_its_own_items() -> None:
    producer, now_us = FakeProducer(), time.time_ns() // 1000
    source = CommittedConsumer(FakeConsumer(), "in")  # type: ignore[arg-type]
    turned = {"digits": NAMES, "letters": (*NAMES[1:], NAMES[0])}
    steering = Steering(lambda model: turned.get(model, ()))
    steering.take(report("executor-0", 4_000, now_us), now_us)
    outlet = RowOutlet(source, producer, CODEC, lambda: 7, TOPIC_ID, steering=steering)  # type: ignore[arg-type]
    models = ["digits"] * 3 + ["letters"] * 3 + ["digits"] * 6
    await outlet.send_rows(2, [row(at, model=model, width=200_000) for at, model in enumerate(models)], [])
    frames = [CODEC.decode("inference.admitted", each.value) for each in producer.sent]
    numbers = [each.frame_id for each in frames]
    assert numbers == sorted(set(numbers))
    assert outlet.num_frames == len(frames) == 12
    found = [
        (each.segments[0].model, turned[each.segments[0].model][lane_of_frame(NAMES, each.frame_id)]) for each in frames
    ]
    assert "executor-0" not in {executor for _, executor in found}
    executors = [executor for _, executor in found]
    assert executors.count("executor-1") >= 2
    assert executors.count("executor-2") >= 2
    queues = {name: len(queue.sent) for name, queue in steering._queues.items()}
    assert queues == {"executor-0": 0, "executor-1": 1, "executor-2": 1}, "one tick, each by what it got"
    assert [steering._queues[name].sent_us / 1_000.0 for name in NAMES[1:]] == [
        sum(model == "digits" for model, executor in found if executor == name) for name in NAMES[1:]
    ], "nobody said how long letters take"


async def test_the_numbers_of_ended_rows_do_not_repeat_those_of_a_steered_tick() -> None:
    producer, now_us = FakeProducer(), time.time_ns() // 1000
    source = CommittedConsumer(FakeConsumer(), "in")  # type: ignore[arg-type]
    steering = Steering(lambda _model: NAMES)
    steering.take(report("executor-0", 4_000, now_us), now_us)
    outlet = RowOutlet(source, producer, CODEC, lambda: 7, TOPIC_ID, steering=steering)  # type: ignore[arg-type]
    rows = [row(at, width=200_000) for at in range(4)]
    end(rows[3], "wrong_shape", "no")
    await outlet.send_rows(2, rows, [])
    topics = ["inference.admitted"] * 3 + ["inference.executed"]
    frames = [CODEC.decode(name, each.value) for name, each in zip(topics, producer.sent, strict=True)]
    numbers = [each.frame_id for each in frames]
    assert numbers == sorted(set(numbers))
    assert Columns.of(frames[3]).offsets.tolist() == [3]
