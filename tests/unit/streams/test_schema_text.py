"""One spelling per schema, and the schemas that are refused."""

from __future__ import annotations

import json

import pytest

from streams.codec import SCHEMA_TEXTS
from streams.schema_text import SchemaRefusedError, lint, named_types, normalise, part


def record(*fields: object, name: str = "R") -> str:
    listed = [{"name": f"f{i}", "type": field} for i, field in enumerate(fields)]
    return json.dumps({"type": "record", "name": name, "namespace": "n", "fields": listed})


def test_spelling_does_not_matter() -> None:
    one = '{"type":"record","name":"R","namespace":"n","fields":[{"name":"a","type":{"type":"long"}}]}'
    two = '{ "fields": [ {"type": "long", "name": "a"} ],\n "name": "n.R", "type": "record" }'
    assert normalise(one) == normalise(two)
    assert normalise(one) != normalise(one.replace('"long"', '"int"'))


def test_defaults_and_documentation_matter() -> None:
    plain = '{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}'
    assert normalise(plain) != normalise(plain.replace('"long"', '"long","default":0'))


@pytest.mark.parametrize("text", sorted(SCHEMA_TEXTS.values()))
def test_ours_pass(text: str) -> None:
    lint(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (record(["null", "n.R"]), "recursive"),
        (record({"type": "array", "items": "R"}), "recursive"),
        (record({"type": "array", "items": "null"}), "no bytes"),
        (record({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}), "no bytes"),
        (record({"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}}), "no bytes"),
        (record("Nobody"), "does not define"),
        ("{", "not JSON"),
        ("7", "a schema is"),
        ('{"type":"record","name":"R","fields":[1]}', "fields"),
        ("[" * 3000 + "]" * 3000, "not JSON|nested|deep"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(SchemaRefusedError, match=why):
        lint(text)


def test_a_part_stands_by_itself() -> None:
    tensor = {"type": "record", "name": "T", "fields": [{"name": "a", "type": "long"}]}
    schema = json.loads(normalise(record(tensor, {"type": "array", "items": "T"}, ["null", "T"])))
    assert set(named_types(schema)) == {"n.R", "n.T"}
    alone = part(schema, "n.T")
    assert alone["name"] == "n.T"
    assert alone["fields"] == [{"name": "a", "type": "long"}]
