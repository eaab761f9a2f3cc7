"""A letter is sent again as it came, with the header that names it; what the broker refuses is named."""

from __future__ import annotations

import asyncio
import dataclasses
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from schemas.coordinate import RecordCoordinate
from streams.letters.letter import REDRIVEN_FROM, REDRIVEN_TO, TOPIC_ID, Letter
from streams.letters.letter_log import TOPIC, LetterFold
from streams.letters.redrive import _Run, coordinate, why_not
from tests.support.fake_kafka import FakeProducer

REQUESTS = "isos.inference.requests.v1"
ID, NOW = b"\1" * 16, b"\2" * 16
HERE = {REQUESTS: 3}


class Sender(FakeProducer):
    """Also takes batches; refuses requests of ``refused`` values and, with ``mute``, notes."""

    def __init__(self, refused=(), mute=False):
        super().__init__()
        self.refused, self.mute = refused, mute
        self.batches = []

    async def send(self, topic, value=None, **given):
        if value in self.refused and topic == REQUESTS:
            raise MessageSizeTooLargeError("too large")
        if self.mute and topic == TOPIC:
            raise KafkaConnectionError("gone")
        return await super().send(topic, value, **given)

    def create_batch(self):
        return SimpleNamespace(append=lambda **given: self.batches.append(given))

    async def send_batch(self, batch, topic, *, partition):
        future = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=77))
        return future


def stored(*letters):
    """Records of the topic and the fold of them."""
    records, fold = [], LetterFold()
    for offset, each in enumerate(letters):
        value, key, headers = each.fields("edge", ID)
        records.append(SimpleNamespace(offset=offset, key=key, value=value, headers=headers, timestamp=5))
        fold.add(records[-1])
    return records, {each.offset: each for each in fold.letters}


def letter(offset, value=b"v", **given):
    return Letter(RecordCoordinate(REQUESTS, 2, offset), value, "garbage", "x", **given)


async def run(sender, *letters, rate=0.0):
    records, chosen = stored(*letters)
    made = _Run(sender, {REQUESTS: NOW}, rate, chosen, None)
    await made.take(records)
    await made.flush()
    return made


async def test_the_record_goes_to_its_partition_as_it_came_and_names_the_old_one():
    sender = Sender()
    made = await run(sender, letter(9, key=b"k", headers=(("a", b"1"), ("a", None))))
    request, note = sender.sent
    assert (request.topic, request.partition, request.key, request.value) == (REQUESTS, 2, b"k", b"v")
    origin = f"{REQUESTS}/2/9@{ID.hex()}".encode()
    assert request.headers == [("a", b"1"), ("a", None), (REDRIVEN_FROM, origin)]
    assert (note.topic, note.key, note.value) == (TOPIC, f"{REQUESTS}/2/9".encode(), None)
    to = f"{REQUESTS}/2/0@{NOW.hex()}"
    assert note.headers == [(REDRIVEN_TO, to.encode()), (TOPIC_ID, ID.hex().encode())]
    (done,) = made.done
    assert (done.to, done.reason, done.failed) == (to, "", False)


async def test_a_second_failure_keeps_the_chain():
    sender = Sender()
    await run(sender, letter(9, headers=((REDRIVEN_FROM, b"first"),)))
    assert [value for _, value in sender.sent[0].headers] == [b"first", f"{REQUESTS}/2/9@{ID.hex()}".encode()]


async def test_a_record_of_nothing_at_all_is_sent_in_a_batch():
    sender = Sender()
    made = await run(sender, letter(9, value=None))
    ((batch),) = sender.batches
    assert (batch["key"], batch["value"]) == (None, None)
    assert made.done[0].to.startswith(f"{REQUESTS}/2/77@")


async def test_a_refused_record_is_named_and_has_no_note():
    sender = Sender(refused=(b"big",))
    made = await run(sender, letter(1), letter(2, value=b"big"), letter(3))
    assert [(bool(each.to), each.failed, each.reason) for each in made.done] == [
        (True, False, ""),
        (False, True, str(MessageSizeTooLargeError("too large"))),
        (True, False, ""),
    ]
    assert [each.topic for each in sender.sent] == [REQUESTS, REQUESTS, TOPIC, TOPIC]


async def test_a_note_that_fails_is_said_for_the_record_stands():
    made = await run(Sender(mute=True), letter(1))
    assert made.done[0].to
    assert made.done[0].failed
    assert "note" in made.done[0].reason


async def test_a_rate_holds_over_the_whole(monkeypatch: pytest.MonkeyPatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    made = await run(Sender(), *(letter(offset) for offset in range(8)), rate=8)
    assert len(made.done) == 8
    assert len(slept) == 4  # rounds of two
    assert 0.9 < slept[-1] <= 1.0


def test_what_cannot_be_sent_again_says_why():
    _, chosen = stored(letter(9))
    one = chosen[0]
    elsewhere = dataclasses.replace(one.letter, where=RecordCoordinate("isos.memory.events.v1", 0, 1))
    far = dataclasses.replace(one.letter, where=RecordCoordinate(REQUESTS, 7, 1))
    cases = {
        "": one,
        "only requests and frames": dataclasses.replace(one, letter=elsewhere),
        "no partition 7": dataclasses.replace(one, letter=far),
        "too large": dataclasses.replace(one, letter=dataclasses.replace(one.letter, omitted="9 bytes")),
        "--again": dataclasses.replace(one, redriven_to=("x",)),
    }
    for part, each in cases.items():
        reason = why_not(each, HERE, again=False)
        assert part in reason
        assert bool(part) == bool(reason)
    assert why_not(cases["--again"], HERE, again=True) == ""
    assert why_not(one, {}, again=False).endswith("no partition 2 any more")


def test_a_coordinate_without_a_topic_id_is_a_place():
    assert coordinate("t", 1, 2, None) == "t/1/2"
