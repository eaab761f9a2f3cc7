"""Records to bytes and back, golden files, and what hostile bytes end as."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.request import InferenceRequest, Tensor
from streams import codec
from streams.codec import RECORDS, Codec, RegisteredSchema, SchemaIds, encode_body, schema_id_of, subject_of
from streams.errors import InvariantError, PoisonRecordError
from streams.registry.schema_text import lint
from streams.topics import MAX_RECORD_BYTES, TOPICS
from streams.varint import write_array, write_bytes, write_long, write_string
from tests.support.samples import RESULT, SAMPLES, records

GOLDEN = Path(__file__).parents[2] / "golden"
REWRITE = "ISOS_REWRITE_GOLDEN"
REQUEST: InferenceRequest = SAMPLES["InferenceRequest"]
TOPIC = "inference.requests"


@pytest.fixture
def plain() -> Codec:
    return Codec(SchemaIds.local())


def code_of(plain: Codec, value: bytes | None, topic: str = TOPIC) -> str:
    with pytest.raises(PoisonRecordError) as caught:
        plain.decode(topic, value)
    return caught.value.code


def topic_of(record: str) -> str:
    return next(topic.name for topic in TOPICS.values() if topic.record == record)


def test_every_topic_has_its_record() -> None:
    assert {topic.record for topic in TOPICS.values()} - {None} == set(RECORDS) == set(SAMPLES)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_golden_bytes(name: str) -> None:
    path = GOLDEN / f"{codec.snake(name)}.v{max(codec.schema_versions(name))}.hex"
    body = encode_body(name, SAMPLES[name])
    if os.environ.get(REWRITE):
        lines = [body.hex()[i : i + 100] for i in range(0, len(body) * 2, 100)]
        path.write_text("\n".join(lines) + "\n")
    stored = bytes.fromhex(path.read_text())
    assert body == stored
    local = Codec(SchemaIds.local())
    assert local.decode(topic_of(name), local.prefix(topic_of(name)) + stored) == SAMPLES[name]


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_random_records_come_back(name: str) -> None:
    local, topic = Codec(SchemaIds.local()), topic_of(name)

    @settings(max_examples=25, deadline=None)
    @given(records(RECORDS[name]))
    def check(record: Any) -> None:
        assert local.decode(topic, local.encode(topic, record)) == record

    check()


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_a_record_or_poison(data: bytes) -> None:
    local = Codec(SchemaIds.local())
    for value in (data, local.prefix(TOPIC) + data):
        try:
            local.decode(TOPIC, value)
        except PoisonRecordError as error:
            assert error.code in ("garbage", "unknown_schema")  # noqa: PT017


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_cut_or_longer_value_is_garbage(data: st.DataObject) -> None:
    local = Codec(SchemaIds.local())
    value = local.encode(TOPIC, REQUEST)
    cut = data.draw(st.integers(0, len(value) - 1))
    assert code_of(local, value[:cut]) == "garbage"
    assert code_of(local, value + b"\x00") == "garbage"


def test_poison_codes(plain: Codec) -> None:
    body = encode_body("InferenceRequest", REQUEST)
    assert code_of(plain, None) == "null_value"
    assert code_of(plain, b"") == "garbage"
    assert code_of(plain, b"\x01" + bytes(20)) == "garbage"
    assert code_of(plain, b"\x00" + (9999).to_bytes(4, "big") + body) == "unknown_schema"
    other = plain.prefix("control.load")
    assert code_of(plain, other + body) == "unknown_schema"  # registered, but not for this topic
    assert code_of(plain, plain.prefix(TOPIC) + bytes(MAX_RECORD_BYTES)) == "garbage"


def test_hostile_counts_and_lengths_are_refused_before_decoding(plain: Codec) -> None:
    head = plain.prefix(TOPIC) + write_string("r") + write_string("digits")
    empty_tensor = b"\x00\x00\x00\x00"
    assert code_of(plain, head + write_long(1 << 40)) == "garbage"
    assert code_of(plain, head + write_long(-(1 << 40)) + write_long(1)) == "garbage"
    many = head + write_long(100_000) + empty_tensor * 100_000 + b"\x00"
    assert code_of(plain, many) == "garbage"
    assert code_of(plain, plain.prefix(TOPIC) + write_long(-5) + bytes(64)) == "garbage"
    assert code_of(plain, plain.prefix(TOPIC) + b"\xff" * 64) == "garbage"


def test_an_int_above_32_bits_is_garbage(plain: Codec) -> None:
    tail = write_string("t") + b"\x00" + write_long(1 << 31) + write_long(0) + b"\x00\x00"
    value = plain.prefix(TOPIC) + write_string("r") + write_string("digits") + b"\x00" + tail
    assert code_of(plain, value) == "garbage"


def with_schema(text: str, schema_id: int = 500) -> Codec:
    local = SchemaIds.local()
    extra = RegisteredSchema(schema_id, text, lint(text), frozenset({subject_of(TOPIC)}))
    return Codec(SchemaIds(local.write_ids, {**local.by_id, schema_id: extra}))


def test_another_registered_writer_schema_is_resolved_to_ours() -> None:
    text = """{"type":"record","name":"InferenceRequest","namespace":"isos","fields":[
        {"name":"note","type":"string"},
        {"name":"model","type":"string"},
        {"name":"inputs","type":{"type":"array","items":{"type":"record","name":"Tensor","fields":[
            {"name":"name","type":"string"},{"name":"datatype","type":"string"},
            {"name":"shape","type":{"type":"array","items":"int"}},{"name":"data","type":"bytes"}]}}},
        {"name":"request_id","type":"string"}]}"""
    tensor = write_string("x") + write_string("FP32") + write_array([write_long(1)]) + write_bytes(b"abcd")
    body = write_string("hello") + write_string("digits") + write_array([tensor]) + write_string("r9")
    value = b"\x00" + (500).to_bytes(4, "big") + body
    expected = InferenceRequest("r9", "digits", (Tensor("x", "FP32", (1,), b"abcd"),))
    assert with_schema(text).decode(TOPIC, value) == expected


def test_a_writer_schema_that_cannot_be_resolved_is_poison() -> None:
    text = '{"type":"record","name":"InferenceRequest","namespace":"isos","fields":[{"name":"model","type":"string"}]}'
    value = b"\x00" + (500).to_bytes(4, "big") + write_string("digits")
    assert code_of(with_schema(text), value) == "garbage"


def test_a_schema_that_lint_refused_is_unknown() -> None:
    local = SchemaIds.local()
    extra = RegisteredSchema(500, "{}", "", frozenset({subject_of(TOPIC)}))
    plain = Codec(SchemaIds(local.write_ids, {**local.by_id, 500: extra}))
    assert code_of(plain, b"\x00" + (500).to_bytes(4, "big")) == "unknown_schema"


def test_parts_are_spliced_into_the_same_bytes() -> None:
    parts = (
        write_string(RESULT.request_id),
        write_string(RESULT.tenant),
        write_long(RESULT.received_us),
        encode_body("Source", RESULT.source),
        write_long(2),
        write_long(1),
        encode_body("ResultError", RESULT.error),
        write_string(RESULT.model),
        write_string(RESULT.model_version),
        encode_body("Provenance", RESULT.provenance),
        encode_body("Timing", RESULT.timing),
        write_array([encode_body("Tensor", tensor) for tensor in RESULT.outputs]),
    )
    assert b"".join(parts) == encode_body("InferenceResult", RESULT)


def test_topics_without_a_record_carry_raw_bytes(plain: Codec) -> None:
    assert plain.encode("inference.dlq", b"\x01\x02") == b"\x01\x02"
    assert plain.decode("inference.dlq", b"\x01\x02") == b"\x01\x02"


def test_refresh_changes_the_ids(plain: Codec) -> None:
    old = plain.encode(TOPIC, REQUEST)
    plain.refresh(SchemaIds.local(first_id=100))
    assert schema_id_of(plain.encode(TOPIC, REQUEST)) == 100
    assert code_of(plain, old) == "unknown_schema"


def test_nothing_is_written_without_a_registered_schema() -> None:
    with pytest.raises(InvariantError, match=r"isos\.inference\.requests\.v1-value"):
        Codec(SchemaIds({}, {})).encode(TOPIC, REQUEST)


def test_unknown_part_names_are_our_own_bug() -> None:
    with pytest.raises(InvariantError):
        encode_body("Nothing", REQUEST)
