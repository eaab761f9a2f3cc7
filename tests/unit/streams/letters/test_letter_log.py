"""Letters folded from their topic: one per record, notes beside them, foreign records counted."""

from __future__ import annotations

from types import SimpleNamespace

from schemas.coordinate import RecordCoordinate
from streams.letters.letter import REDRIVEN_TO, TOPIC_ID, Letter
from streams.letters.letter_log import LetterFold, letter_id

REQUESTS = "isos.inference.requests.v1"
ID, OTHER = bytes(range(16)), bytes(range(16, 32))


def record(offset, key, value, headers):
    return SimpleNamespace(offset=offset, key=key, value=value, headers=headers, timestamp=1000 + offset)


def letter(offset, at, *, topic_id=ID, code="garbage", topic=REQUESTS, headers=()):
    made = Letter(RecordCoordinate(topic, 2, at), b"\xff", code, "x", key=b"k", headers=headers)
    value, key, written = made.fields("edge", topic_id)
    return record(offset, key, value, written)


def note(offset, at, to, topic_id=ID):
    return record(offset, f"{REQUESTS}/2/{at}".encode(), None, [(REDRIVEN_TO, to), (TOPIC_ID, topic_id.hex().encode())])


def fold(*records):
    made = LetterFold()
    for each in records:
        made.add(each)
    return made


def test_a_letter_is_found_by_its_id_in_every_form():
    made = fold(letter(0, 17), letter(1, 18))
    (stored,) = made.find("inference.requests/2/17")
    assert (stored.id, stored.full_id) == ("inference.requests/2/17", "inference.requests/2/17@00010203")
    assert (stored.offset, stored.written_ms, stored.num_bytes, stored.letter.key) == (0, 1000, 1, b"k")
    assert made.find("isos.inference.requests.v1/2/17") == made.find(stored.full_id) == [stored]
    assert made.find("inference.requests/2/99") == made.find("nonsense") == []


def test_a_letter_written_twice_is_one():
    (stored,) = fold(letter(0, 17), letter(1, 18), letter(5, 17)).find("inference.requests/2/17")
    assert (stored.num_copies, stored.offset) == (2, 5)


def test_a_note_says_where_it_was_sent_again_also_beside_a_later_copy():
    made = fold(letter(0, 17), note(1, 17, b"to/1"), letter(2, 17), note(3, 17, b"to/2"))
    (stored,) = made.letters
    assert stored.redriven_to == ("to/1", "to/2")
    assert made.num_foreign == 0


def test_letters_of_a_topic_made_anew_are_others():
    made = fold(letter(0, 17), letter(1, 17, topic_id=OTHER), note(2, 17, b"to", OTHER))
    assert [each.full_id for each in made.find("inference.requests/2/17")] == [
        "inference.requests/2/17@00010203",
        "inference.requests/2/17@10111213",
    ]
    (old,) = made.find("inference.requests/2/17@0001")
    (new,) = made.find("inference.requests/2/17@1011")
    assert (old.redriven_to, new.redriven_to) == ((), ("to",))


def test_what_is_neither_letter_nor_note_is_counted():
    made = fold(record(0, b"k", b"v", []), record(1, None, None, [("a", b"b")]), note(2, 17, b"to"))
    assert (made.letters, made.num_foreign) == ([], 3)


def test_a_letter_whose_record_was_itself_redriven_is_a_letter():
    (stored,) = fold(letter(0, 17, headers=((REDRIVEN_TO, b"theirs"), ("isos-redriven-from", b"a/0/1")))).letters
    assert stored.redriven_to == ()


def test_the_id_of_another_topic_is_its_name():
    assert letter_id(Letter(RecordCoordinate("theirs", 0, 1), None, "garbage", "x")) == "theirs/0/1"
