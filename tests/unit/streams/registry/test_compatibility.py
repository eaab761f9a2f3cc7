"""The seven levels, on pairs whose outcome Avro's specification says, and agreement with the decoder itself."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.registry.compatibility import LEVELS, check_schema, problems, unreadable
from streams.registry.schema_text import SchemaRefusedError
from tests.support.schemas import record

BASE = record(("a", "long"))
ADDED = record(("a", "long"), ("b", "string", ""))
REQUIRED = record(("a", "long"), ("b", "string"))
GONE = record()
WIDER = record(("a", "double"))
OTHER = record(("a", "string"))


def enum(*symbols: str, default: str | None = None) -> str:
    return json.dumps({"type": "enum", "name": "E", "symbols": symbols, **({"default": default} if default else {})})


@pytest.mark.parametrize(
    ("reader", "writer", "readable"),
    [
        *((BASE, BASE, True), (ADDED, BASE, True), (BASE, ADDED, True), (REQUIRED, BASE, False)),
        *((BASE, REQUIRED, True), (GONE, BASE, True), (BASE, GONE, False), (WIDER, BASE, True), (BASE, WIDER, False)),
        *((OTHER, BASE, False), ('["null","long"]', '"long"', True), ('"long"', '["null","long"]', False)),
        *((enum("A", "B"), enum("A"), True), (enum("A"), enum("A", "B"), False)),
        *((enum("A", default="A"), enum("A", "B"), True), ('"bytes"', '"string"', True)),
        *(('{"type":"array","items":"double"}', '{"type":"array","items":"int"}', True),),
        *((record(("a", "long"), name="Other"), BASE, False),),
    ],
)
def test_what_reads_what(reader: str, writer: str, readable: bool) -> None:
    assert (unreadable(reader, writer) == ()) == readable


@pytest.mark.parametrize(
    ("level", "new", "old", "allowed"),
    [
        *(("NONE", OTHER, (BASE,), True), ("BACKWARD", REQUIRED, (BASE,), False), ("BACKWARD", GONE, (BASE,), True)),
        *(("FORWARD", REQUIRED, (BASE,), True), ("FORWARD", GONE, (BASE,), False)),
        *(("FULL", ADDED, (BASE,), True), ("FULL", REQUIRED, (BASE,), False), ("FULL", GONE, (BASE,), False)),
        # Only transitive levels look behind the latest version.
        *(("BACKWARD", BASE, (OTHER, BASE), True), ("BACKWARD_TRANSITIVE", BASE, (OTHER, BASE), False)),
        *(("FORWARD", REQUIRED, (OTHER, BASE), True), ("FORWARD_TRANSITIVE", REQUIRED, (OTHER, BASE), False)),
        *(("FULL", ADDED, (OTHER, BASE), True), ("FULL_TRANSITIVE", ADDED, (OTHER, BASE), False)),
        *(("FULL_TRANSITIVE", ADDED, (BASE, ADDED), True), ("FULL_TRANSITIVE", OTHER, (), True)),
    ],
)
def test_levels(level: str, new: str, old: tuple[str, ...], allowed: bool) -> None:
    found = () if level == "NONE" else problems(new, list(enumerate(old, 1)), level)
    assert (found == ()) == allowed


def test_a_sentence_names_version_direction_and_place() -> None:
    (found,) = problems(REQUIRED, [(3, BASE)], "BACKWARD")
    assert found.startswith("the new schema cannot read what version 3 wrote: reader_field_missing_default_value")
    assert "/fields/1" in found
    (found,) = problems(GONE, [(3, BASE)], "FORWARD")
    assert found.startswith("version 3 cannot read what the new schema writes")


@pytest.mark.parametrize(
    "text",
    [
        "{", '"nothing"', '{"type":"record"}', '{"type":"array","items":"null"}',
        '{"type":"record","name":"T","fields":[{"name":"next","type":["null","T"]}]}',
        '{"type":"record","name":"bad name","fields":[]}', '{"type":"enum","name":"E","symbols":["1"]}',
        '{"type":"enum","name":"E","symbols":["A","A"]}', '["long","long"]', '[["long"]]',
        '{"type":"fixed","name":"F","size":-1}', '{"type":"fixed","name":"F","size":"four"}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"a","type":"long"}]}',
        '{"type":{"type":{}}}', '{"type":7}', "7", "null", "[]", '{"type":"array"}',
        '{"type":"record","name":"R","fields":[7]}', '{"type":"long","items":{},"type":{}}',
        '{"type":"enum","name":"E"}', '{"type":"fixed","name":"F"}', '{"type":"map"}', '{"type":"record","name":"R"}',
        '{"type":"array","items":"x","name":{}}', '{"type":"record","name":7,"fields":[]}',
        '{"type":"record","fields":[]}',
    ],
)  # fmt: skip
def test_what_is_no_schema_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(SchemaRefusedError) as caught:
        check_schema(text)
    assert len(str(caught.value)) > 10


def test_logical_types_are_no_offence() -> None:
    for text in ('{"type":"long","logicalType":"timestamp-micros"}', '{"type":"bytes","logicalType":"of-my-own"}'):
        assert check_schema(text)


KEYS = ["type", "name", "namespace", "fields", "items", "values", "symbols", "size", "default", "logicalType"]
KINDS = ["record", "enum", "fixed", "array", "map"]


@given(st.text(max_size=60) | st.recursive(
    st.sampled_from(["long", "null", "R", "decimal", 7, -1, None, True, *KINDS]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
).map(json.dumps))  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_nothing_but_a_refusal_comes_out_of_any_text(text: str) -> None:
    try:
        check_schema(text)
    except SchemaRefusedError:
        return


TYPES = st.sampled_from(["int", "long", "float", "double", "string", "bytes", "boolean"])
VALUES: dict[str, Any] = {
    "int": 1,
    "long": 1 << 40,
    "float": 0.5,
    "double": 0.5,
    "string": "s",
    "bytes": b"b",
    "boolean": True,
}


@given(st.lists(TYPES, min_size=1, max_size=3), st.lists(TYPES, min_size=1, max_size=3))
def test_what_is_called_readable_can_be_decoded(written: list[str], wanted: list[str]) -> None:
    writer = record(*((f"f{n}", kind) for n, kind in enumerate(written)))
    reader = record(*((f"f{n}", kind) for n, kind in enumerate(wanted)))
    out = io.BytesIO()
    value = {f"f{n}": VALUES[kind] for n, kind in enumerate(written)}
    fastavro.schemaless_writer(out, json.loads(writer), value)
    out.seek(0)
    if not unreadable(reader, writer):
        read = fastavro.schemaless_reader(out, json.loads(writer), json.loads(reader))
        assert list(read) == [f"f{n}" for n in range(len(wanted))]


def test_every_level_is_known() -> None:
    assert len(set(LEVELS)) == 7
