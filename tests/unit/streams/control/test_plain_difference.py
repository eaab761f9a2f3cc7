"""Where two values differ, in words."""

from __future__ import annotations

import pytest

from schemas.journal import JournalEffect
from schemas.review import ReviewDecision
from streams.codec import Codec, SchemaIds
from streams.control.journal import JournaledAgent
from streams.control.plain_difference import first_difference, shortened, told
from tests.support.journals import PLAIN
from tests.unit.streams.control.test_journal import SPEC


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b: 2 in the journal, 3 today"),
        ({"b": {"c": [1, 2]}}, {"b": {"c": [1, 5]}}, "b.c[1]: 2 in the journal, 5 today"),
        ({"a": 1}, {"a": 1, "z": None}, "z: nothing in the journal, null today"),
        ({"a": [1]}, {"a": []}, "a[0]: 1 in the journal, nothing today"),
        ({"body": '{"x":1}'}, {"body": '{"x":2}'}, "body.x: 1 in the journal, 2 today"),
        ({"body": "{x"}, {"body": '{"x":2}'}, 'body: "{x" in the journal, "{\\"x\\":2}" today'),
        (1, "1", 'its value: 1 in the journal, "1" today'),
    ],
)
def test_the_first_difference(was: object, now: object, said: str) -> None:
    assert first_difference(was, now) == said


def test_what_is_long_is_cut() -> None:
    assert shortened("x" * 200, 10) == '"xxxxxxxx…'
    assert shortened({"a": "ü"}) == '{"a":"ü"}'


def test_effects_as_plain_data() -> None:
    agent = JournaledAgent(SPEC, PLAIN)
    assert told(agent, JournalEffect("out", -1, b"k", b"12")) == {
        "topic": "out",
        "partition": -1,
        "key": "k",
        "record": 12,
    }
    assert told(agent, JournalEffect("out", 0, b"\xff", None))["record"] is None
    assert told(agent, JournalEffect("out", 0, b"", b"no"))["record"] == b"no".hex()
    real = JournaledAgent(SPEC, Codec(SchemaIds.local()))
    record = ReviewDecision("r", "expired", "reviewer", "late", "ab", 5)
    value = real.codec.encode("control.review-decisions", record)
    assert told(real, JournalEffect("control.review-decisions", -1, b"r", value))["record"]["decision"] == "expired"
