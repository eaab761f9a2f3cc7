"""What keeps questions about unknown schemas few; following a real log is in tests/integration/test_schema_watch.py."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streams.codec import Codec, RegisteredSchema, SchemaIds
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.registry.schema_watch import (
    FAR_QUESTIONS_PER_S,
    MAX_UNKNOWN,
    QUESTIONS_PER_S,
    UNKNOWN_S,
    RateLimit,
    SchemaWatch,
    UnknownIds,
    decode_or_learn,
)
from tests.support.samples import SAMPLES

REQUEST = SAMPLES["InferenceRequest"]
TOPIC = "inference.requests"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class StandIn(SchemaWatch):
    """A watch whose log is a variable: ``registered`` is what the next look finds."""

    def __init__(self, clock: Clock, known: SchemaIds) -> None:
        super().__init__(Connection("127.0.0.1:1"), Codec(known), clock=clock)
        self.registered = known

    async def catch_up(self) -> None:
        if self.registered is not self.codec.ids:
            self.codec.refresh(self.registered)


def other_ids(first: int) -> SchemaIds:
    """What is registered once a writer with ids of its own came: ours and the same schemas from ``first`` on."""
    ours, theirs = SchemaIds.local(), SchemaIds.local(first)
    return SchemaIds(ours.write_ids, {**ours.by_id, **theirs.by_id})


def test_a_bucket_gives_its_rate_and_no_more() -> None:
    clock = Clock()
    limit = RateLimit(4.0, clock)
    assert [limit.take() for _ in range(6)] == [True] * 4 + [False] * 2
    clock.now += 0.5
    assert [limit.take() for _ in range(4)] == [True] * 2 + [False] * 2
    clock.now += 1_000
    assert sum(limit.take() for _ in range(20)) == 4


def test_unknown_ids_are_bounded_and_forgotten_in_time() -> None:
    clock = Clock()
    ids = UnknownIds(clock)
    for number in range(MAX_UNKNOWN + 10):
        ids.add(number)
    assert len(ids) == MAX_UNKNOWN
    assert 9 not in ids
    assert 10 in ids
    clock.now += UNKNOWN_S
    assert 10 not in ids
    ids.add(10)
    ids.clear()
    assert len(ids) == 0


async def test_a_schema_registered_meanwhile_is_learnt_and_the_value_read() -> None:
    watch = StandIn(Clock(), SchemaIds.local())
    watch.registered = other_ids(500)
    value = Codec(SchemaIds.local(500)).encode(TOPIC, REQUEST)
    assert not watch.codec.knows(TOPIC, value)
    assert await decode_or_learn(watch.codec, watch, TOPIC, value) == REQUEST
    assert watch.codec.knows(TOPIC, value)
    assert watch.num_questions == 1
    await decode_or_learn(watch.codec, watch, TOPIC, value)
    assert watch.num_questions == 1


async def test_an_id_that_stayed_unknown_is_not_asked_for_again_for_a_while() -> None:
    clock = Clock()
    watch = StandIn(clock, SchemaIds.local())
    assert [await watch.learn(700) for _ in range(5)] == [False] * 5
    assert watch.num_questions == 1
    clock.now += UNKNOWN_S
    assert not await watch.learn(700)
    assert watch.num_questions == 2


async def test_random_ids_cost_a_few_questions_a_second_and_leave_room_for_near_ones() -> None:
    clock, rng = Clock(), random.Random(4)
    watch = StandIn(clock, SchemaIds.local())
    seconds = 20
    for _ in range(200 * seconds):
        await watch.learn(rng.randrange(1_000_000, 1 << 32))
        clock.now += 1 / 200
    assert watch.num_questions <= FAR_QUESTIONS_PER_S * (seconds + 1)
    for _ in range(200 * seconds):  # ids close to those in use are limited too, less strictly
        await watch.learn(rng.randrange(30, 1_000))
        clock.now += 1 / 200
    assert watch.num_questions <= QUESTIONS_PER_S * (seconds + 1) + FAR_QUESTIONS_PER_S * (seconds + 1)
    watch.registered = other_ids(900)
    clock.now += 1.0
    value = Codec(SchemaIds.local(900)).encode(TOPIC, REQUEST)
    assert await decode_or_learn(watch.codec, watch, TOPIC, value) == REQUEST


async def test_surely_asks_past_every_limit() -> None:
    watch = StandIn(Clock(), SchemaIds.local())
    for _ in range(100):
        await watch.learn(700, surely=True)
    assert watch.num_questions == 100


async def test_prepare_asks_only_for_values_that_cannot_be_read() -> None:
    watch = StandIn(Clock(), SchemaIds.local())
    for value in (None, b"", b"\x01", b"plain text", watch.codec.encode(TOPIC, REQUEST)):
        await watch.prepare(TOPIC, value)
    assert watch.num_questions == 0
    watch.registered = other_ids(500)
    value = Codec(SchemaIds.local(500)).encode(TOPIC, REQUEST)
    await watch.prepare(TOPIC, value)
    assert watch.codec.decode(TOPIC, value) == REQUEST


async def test_an_id_of_another_subject_is_never_read_with() -> None:
    known = SchemaIds.local()
    watch = StandIn(Clock(), known)
    stranger = RegisteredSchema(900, known.by_id[1].text, known.by_id[1].normal, frozenset({"elsewhere-value"}))
    watch.registered = SchemaIds(known.write_ids, {**known.by_id, 900: stranger})
    value: Any = b"\x00" + (900).to_bytes(4, "big") + b"x"
    with pytest.raises(PoisonRecordError) as caught:
        await decode_or_learn(watch.codec, watch, TOPIC, value)
    assert caught.value.code == "unknown_schema"


async def test_without_a_watch_and_for_other_faults_nothing_is_asked() -> None:
    watch = StandIn(Clock(), SchemaIds.local())
    for value in (None, b"garbage"):
        with pytest.raises(PoisonRecordError):
            await decode_or_learn(watch.codec, watch, TOPIC, value)
    assert watch.num_questions == 0
    with pytest.raises(PoisonRecordError):
        await decode_or_learn(watch.codec, None, TOPIC, b"\x00\x00\x00\xff\xff")
