"""One spelling per schema, and the schemas that are refused."""

from __future__ import annotations

import json

import pytest

from streams.codec import SCHEMA_TEXTS
from streams.registry.schema_text import MAX_DEPTH, SchemaRefusedError, lint, named_types, normalise, part


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
        (record({"type": "fixed", "name": "F", "size": 1}, {"type": "fixed", "name": "F", "size": 2}), "twice"),
        ("{", "not JSON"),
        ("7", "a schema is"),
        ('{"type":"record","name":"R","fields":[1]}', "fields"),
        ("[" * 3000 + "]" * 3000, "not JSON|nested|deep"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(SchemaRefusedError, match=why):
        lint(text)


def doubling(levels: int, innermost: object) -> str:
    """Types that each hold the one before four times: short to write, 4 ** levels parts to walk."""
    inner: object = {"type": "record", "name": "T0", "fields": [{"name": "x", "type": innermost}]}
    for level in range(1, levels):
        fields = [{"name": f"f{n}", "type": inner if n == 0 else f"T{level - 1}"} for n in range(4)]
        inner = {"type": "record", "name": f"T{level}", "fields": fields}
    return json.dumps(inner)


@pytest.mark.parametrize("innermost", ["null", "long"])
def test_a_schema_that_unfolds_without_bound_is_refused_at_once(innermost: str) -> None:
    lint(doubling(6, innermost))
    for levels, why in ((8, "unfolds"), (14, "unfolds")):
        with pytest.raises(SchemaRefusedError, match=why):
            lint(doubling(levels, innermost))


def test_the_depth_is_bounded_through_names_too() -> None:
    inner: object = "long"
    for _ in range(MAX_DEPTH - 1):
        inner = {"type": "array", "items": inner}
    lint(json.dumps(inner))
    lint(json.dumps({"type": "array", "items": inner}))
    with pytest.raises(SchemaRefusedError, match="deeper"):
        lint(json.dumps({"type": "array", "items": {"type": "array", "items": inner}}))


def test_a_part_stands_by_itself() -> None:
    tensor = {"type": "record", "name": "T", "fields": [{"name": "a", "type": "long"}]}
    schema = json.loads(normalise(record(tensor, {"type": "array", "items": "T"}, ["null", "T"])))
    assert set(named_types(schema)) == {"n.R", "n.T"}
    alone = part(schema, "n.T")
    assert alone["name"] == "n.T"
    assert alone["fields"] == [{"name": "a", "type": "long"}]
