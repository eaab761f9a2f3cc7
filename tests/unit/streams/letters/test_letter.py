"""A letter read back is the record as it came; ours never displaces what was the record's."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coordinate import RecordCoordinate
from streams.errors import PoisonRecordError
from streams.letters import letter as letter_module
from streams.letters.letter import CODE, KEY, MESSAGE, NUM_HEADERS, OMITTED, STACKTRACE, TOPIC, Letter, parse_letter
from streams.topics import MAX_LETTER_BYTES, MAX_RECORD_BYTES

WHERE = RecordCoordinate("isos.inference.requests.v1", 2, 77)
TOPIC_ID = bytes(range(16))
NAMES = st.one_of(st.text(max_size=8), st.sampled_from([CODE, KEY, TOPIC, NUM_HEADERS, OMITTED]))
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=8)), max_size=6).map(tuple)


def letter(**given):
    return Letter(WHERE, **{"value": b"\xff\x00", "code": "garbage", "message": "no Avro", **given})


@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=20), HEADERS, st.integers(0, 1 << 50))
def test_a_letter_read_back_is_the_record_as_it_came(value, key, headers, timestamp_ms):
    sent = letter(value=value, key=key, headers=headers, timestamp_ms=timestamp_ms)
    stored, place, written = sent.fields("edge", TOPIC_ID)
    found = parse_letter(stored, written)
    assert found is not None
    assert (found.value, found.key, found.headers, found.timestamp_ms) == (value, key, headers, timestamp_ms)
    assert (found.where, found.code, found.message) == (WHERE, "garbage", "no Avro")
    assert (found.stage, found.topic_id, found.omitted) == ("edge", TOPIC_ID, "")
    assert place == b"isos.inference.requests.v1/2/77"
    assert dict(written)[CODE] == b"garbage"  # a reader that takes the last of a name reads ours


def test_the_causes_are_named_without_a_file_or_a_line():
    try:
        try:
            raise EOFError("the body ends early")
        except EOFError as cause:
            raise PoisonRecordError("garbage", "not Avro") from cause
    except PoisonRecordError as error:
        record = SimpleNamespace(
            topic=WHERE.topic, partition=2, offset=77, key=None, value=b"", headers=(), timestamp=5
        )
        made = Letter.of(record, error)
    causes = dict(made.fields("edge", None)[2])[STACKTRACE].decode()
    assert causes == "streams.errors.PoisonRecordError: garbage: not Avro\nbuiltins.EOFError: the body ends early"
    assert made.exception == "streams.errors.PoisonRecordError"
    assert made.timestamp_ms == 5


@pytest.mark.parametrize("headers", [None, {}, [], {"a": b"1"}.items(), {"a": b"1"}])
def test_headers_of_every_client_are_taken(headers):
    record = SimpleNamespace(topic="t", partition=0, offset=0, key=b"k", value=b"", headers=headers, timestamp=1.5)
    made = Letter.of(record, PoisonRecordError("garbage", "x"), timestamp_ms=1500)
    assert made.headers == ((("a", b"1"),) if headers else ())
    assert made.timestamp_ms == 1500


def test_the_sentences_are_bounded():
    made = letter(message="x" * 5000, causes="y" * 50_000)
    headers = dict(made.fields("edge", None)[2])
    assert (len(headers[MESSAGE]), len(headers[STACKTRACE])) == (1000, 4000)


def test_a_record_at_the_size_limit_is_kept_whole():
    value, _, headers = letter(value=bytes(MAX_RECORD_BYTES), key=b"k" * 1000, message="x" * 5000).fields("edge", None)
    assert value is not None
    assert len(value) == MAX_RECORD_BYTES
    assert OMITTED not in dict(headers)


def test_what_no_topic_takes_is_named_by_size_and_digest(monkeypatch):
    monkeypatch.setattr(letter_module, "MAX_LETTER_BYTES", 1000)
    value, _, headers = letter(value=bytes(2000), key=b"k", headers=(("a", b"1"),)).fields("edge", TOPIC_ID)
    found = parse_letter(value, headers)
    assert found is not None
    assert (found.value, found.key, found.headers) == (None, None, ())
    assert found.omitted == f"2000 bytes, sha256 {hashlib.sha256(bytes(2000)).hexdigest()}"
    assert MAX_LETTER_BYTES > MAX_RECORD_BYTES


@pytest.mark.parametrize(
    "headers", [[], [("isos-redriven-to", b"x")], [(TOPIC, b"t"), ("__streams.errors.offset", b"?")]]
)
def test_a_record_that_is_no_letter_is_none(headers):
    assert parse_letter(b"", headers) is None
