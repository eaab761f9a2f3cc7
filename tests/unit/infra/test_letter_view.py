"""What a person reads of a letter: which it is, what is wrong, what to do."""

from __future__ import annotations

import dataclasses

from infra.letter_view import Filter, described, row, select
from schemas.coordinate import RecordCoordinate
from streams.errors import CODES
from streams.letters.letter import Letter
from tests.unit.streams.letters.test_letter_log import OTHER, fold, letter, note

WHOLE = Letter(
    RecordCoordinate("isos.inference.requests.v1", 2, 17), b"\xff\x00", "garbage", "no Avro", key=b"\xfe",
    headers=(("trace", b"abc"),), timestamp_ms=1_700_000_000_000, stage="edge", topic_id=bytes(range(16)),
)  # fmt: skip


def test_a_filter_asks_for_everything_that_it_names():
    made = fold(letter(0, 17), letter(1, 18, code="unknown_schema"), letter(2, 19, topic="isos.inference.routed.v1"))
    assert [each.offset for each in select(made, Filter())] == [0, 1, 2]
    assert [each.offset for each in select(made, Filter(code="unknown_schema"))] == [1]
    assert [each.offset for each in select(made, Filter(topic="inference.routed"))] == [2]
    assert [each.offset for each in select(made, Filter(topic="isos.inference.requests.v1"))] == [0, 1]
    assert [each.offset for each in select(made, Filter(since_ms=1001, until_ms=1001))] == [1]
    assert select(made, Filter(stage="router")) == []


def test_a_row_has_the_shortest_id_that_says_which():
    made = fold(letter(0, 17), letter(1, 18), letter(2, 18, topic_id=OTHER), note(3, 17, b"t/2/40@0102"))
    rows = [row(each, made) for each in select(made, Filter())]
    assert [each["id"] for each in rows] == [
        "inference.requests/2/17",
        "inference.requests/2/18@00010203",
        "inference.requests/2/18@10111213",
    ]
    assert [each["redriven_to"] for each in rows] == ["t/2/40", None, None]
    assert rows[0]["written"] == "1970-01-01T00:00:01.000Z"


def test_a_letter_is_described_with_the_remedy_of_its_code():
    (stored,) = fold(letter(0, 17)).letters
    told = described(stored, WHOLE, {"undecodable": "garbage", "message": "x"})
    assert told["what_to_do"] == CODES["garbage"].remedy
    assert (told["key"], told["headers"], told["value_hex"], told["value_bytes"]) == ("fe", {"trace": "abc"}, "ff00", 2)
    assert told["received"] == "2023-11-14T22:13:20.000Z"


def test_a_letter_that_can_be_read_by_now_says_so():
    (stored,) = fold(letter(0, 17)).letters
    told = described(stored, WHOLE, {"request_id": "r"})
    assert told["what_to_do"].endswith("`isos dlq redrive inference.requests/2/17@00010203`.")


def test_a_letter_that_was_sent_again_says_where():
    (stored,) = fold(letter(0, 17), note(1, 17, b"t/2/40@0102")).letters
    assert described(stored, WHOLE, None)["what_to_do"] == "It was sent again as t/2/40@0102."


def test_a_null_value_and_an_unknown_code_are_told_as_they_are():
    (stored,) = fold(letter(0, 17)).letters
    told = described(stored, dataclasses.replace(WHOLE, value=None, code="newer", timestamp_ms=-1), None)
    assert (told["value_bytes"], told["value_hex"], told["meaning"], told["received"]) == (None, None, None, None)
