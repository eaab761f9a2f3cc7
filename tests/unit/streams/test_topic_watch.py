"""A re-created topic is noticed; the older of two ids is told from the newer; a group's name carries the id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from streams import topic_watch
from streams.connection import Connection, TimedOutError
from streams.topic_watch import Doubt, TopicRecreatedError, TopicWatch, edge_group

OLD, NEW = bytes(16), bytes(range(16))


class Broker:
    """What the broker answers, and how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[bytes | Exception] = []
        self.num_questions = 0
        monkeypatch.setattr(topic_watch, "topic_ids", self.topic_ids)
        self.watch = TopicWatch(Connection("127.0.0.1:1"), "inference.requests", OLD)

    async def topic_ids(self, _connection: Connection, names: Iterable[str]) -> dict[str, bytes]:
        self.num_questions += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys(names, answer)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


async def test_another_id_ends_the_watch_and_silence_does_not(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "LOOK_S", 0.001)
    broker.answers = [OLD, TimedOutError("waiting for the topics", 15.0), OLD, NEW]
    with pytest.raises(TopicRecreatedError) as caught:
        await asyncio.wait_for(broker.watch.run(), 5)
    assert (caught.value.old_id, caught.value.new_id) == (OLD, NEW)
    assert str(caught.value) == (
        f"topic inference.requests was re-created: its id was {OLD.hex()} and is {NEW.hex()} now"
    )


async def test_what_is_older_than_the_last_look_needs_no_other(broker: Broker) -> None:
    broker.answers = [OLD]
    made_us = time.time_ns() // 1000
    await broker.watch.confirm(made_us)
    assert broker.num_questions == 1
    await broker.watch.confirm(made_us - 2 * topic_watch.CLOCKS_APART_US)
    assert broker.num_questions == 1
    await broker.watch.confirm(time.time_ns() // 1000)
    assert broker.num_questions == 2
    broker.answers = [NEW]
    with pytest.raises(TopicRecreatedError):
        await broker.watch.confirm(time.time_ns() // 1000)


async def test_a_doubt_is_settled_by_one_look(broker: Broker) -> None:
    broker.answers = [OLD]
    doubt = Doubt(broker.watch)
    await doubt.settle()
    assert broker.num_questions == 0
    doubt.rise()
    await doubt.settle()
    await doubt.settle()
    assert broker.num_questions == 1


async def test_a_reader_that_asks_for_new_metadata_raises_a_doubt(broker: Broker) -> None:
    broker.answers = [NEW]
    client = SimpleNamespace(force_metadata_update=lambda: "asked")
    doubt = Doubt(broker.watch)
    doubt.follow(SimpleNamespace(_client=client))
    await doubt.settle()
    assert client.force_metadata_update() == "asked"
    with pytest.raises(TopicRecreatedError):
        await doubt.settle()


def test_each_topic_id_has_a_group_of_its_own() -> None:
    assert edge_group(OLD) != edge_group(NEW)
    assert edge_group(NEW) == f"isos-edge-{NEW.hex()}"
