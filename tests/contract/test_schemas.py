"""The gate for schema files: every version beside every other one, and the bytes that were written with each.

``ISOS_REWRITE_GOLDEN=1`` adds the meaning of a new schema file; what is stored of an older one is never rewritten.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import fastavro
import pytest

from streams.codec import RECORDS, Codec, RegisteredSchema, SchemaIds, encode_body, schema_versions, snake, subject_of
from streams.convert import to_dict
from streams.registry.schema_text import lint
from streams.topics import TOPICS
from tests.support.samples import SAMPLES
from tests.support.schema_gate import ADDED, complaints, meaning, next_version

GOLDEN = Path(__file__).parents[1] / "golden"
MEANINGS = GOLDEN / "schema_meanings.json"
VERSIONS = [(name, number) for name in sorted(RECORDS) for number in schema_versions(name)]
NEW_ID = 4_000


def topic_of(record: str) -> str:
    return next(topic.name for topic in TOPICS.values() if topic.record == record)


def beside_ours(record: str, text: str) -> Codec:
    """Today's codec on a log where ``text`` is registered for the record's topic too, under ``NEW_ID``."""
    ids = SchemaIds.local()
    other = RegisteredSchema(NEW_ID, text, lint(text), frozenset({subject_of(topic_of(record))}))
    return Codec(SchemaIds(ids.write_ids, {**ids.by_id, NEW_ID: other}))


def written(text: str, value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(text)), value)
    return out.getvalue()


def resolved(body: bytes, writer: str, reader: str) -> Any:
    schemas = [fastavro.parse_schema(json.loads(text)) for text in (writer, reader)]
    return fastavro.schemaless_reader(io.BytesIO(body), *schemas)


def golden(record: str, number: int) -> bytes:
    return bytes.fromhex((GOLDEN / f"{snake(record)}.v{number}.hex").read_text())


def value_of(body: bytes) -> bytes:
    return b"\x00" + NEW_ID.to_bytes(4, "big") + body


@pytest.mark.parametrize("record", sorted(RECORDS))
def test_every_version_may_stand_beside_every_other(record: str) -> None:
    assert complaints(record, schema_versions(record)) == []


def test_the_meaning_of_a_schema_file_never_changes() -> None:
    stored = json.loads(MEANINGS.read_text()) if MEANINGS.exists() else {}
    found = {f"{snake(record)}.v{n}": meaning(schema_versions(record)[n]) for record, n in VERSIONS}
    if os.environ.get("ISOS_REWRITE_GOLDEN"):
        stored = found | stored
        MEANINGS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    assert found == stored, (
        "add a version; only a file that was never released may change (delete its line and rewrite)"
    )


def test_every_golden_file_belongs_to_a_schema_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.hex")} == {f"{snake(record)}.v{number}" for record, number in VERSIONS}


@pytest.mark.parametrize(("record", "number"), VERSIONS)
def test_what_was_ever_written_is_read_today_and_nothing_of_it_is_lost(record: str, number: int) -> None:
    text, body = schema_versions(record)[number], golden(record, number)
    read = beside_ours(record, text).decode(topic_of(record), value_of(body))
    assert isinstance(read, RECORDS[record])
    assert written(text, to_dict(RECORDS[record])(read)) == body


@pytest.mark.parametrize(("record", "number"), VERSIONS)
def test_what_is_written_today_is_read_by_every_older_reader(record: str, number: int) -> None:
    newest = schema_versions(record)[max(schema_versions(record))]
    older = schema_versions(record)[number]
    read = resolved(encode_body(record, SAMPLES[record]), newest, older)
    assert set(read) == {field["name"] for field in json.loads(older)["fields"]}


@pytest.mark.parametrize("record", sorted(RECORDS))
def test_a_later_writer_beside_todays_reader(record: str) -> None:
    later = next_version(schema_versions(record)[max(schema_versions(record))])
    value = to_dict(RECORDS[record])(SAMPLES[record])
    given = {**value, "added_text": "more than we know", "added_count": 7, "added_list": ["a", "b"]}
    codec = beside_ours(record, later)
    assert codec.decode(topic_of(record), value_of(written(later, given))) == SAMPLES[record]


@pytest.mark.parametrize("record", sorted(RECORDS))
def test_todays_writer_beside_a_later_reader(record: str) -> None:
    newest = schema_versions(record)[max(schema_versions(record))]
    later = next_version(newest)
    read = resolved(encode_body(record, SAMPLES[record]), newest, later)
    assert {field["name"]: read.pop(field["name"]) for field in ADDED} == {
        field["name"]: field["default"] for field in ADDED
    }
    assert written(newest, read) == encode_body(record, SAMPLES[record])


@pytest.mark.parametrize("record", sorted(RECORDS))
def test_a_later_version_passes_the_gate(record: str) -> None:
    versions = schema_versions(record)
    assert complaints(record, {**versions, max(versions) + 1: next_version(versions[max(versions)])}) == []


def changed(record: str, change: Any) -> list[str]:
    versions = schema_versions(record)
    schema = json.loads(versions[max(versions)])
    change(schema)
    return complaints(record, {**versions, max(versions) + 1: json.dumps(schema)})


@pytest.mark.parametrize("record", sorted(RECORDS))
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s["fields"].append({"name": "needed", "type": "long"}), "missing_default"),
        (lambda s: s["fields"].pop(0), "cannot"),
        (lambda s: s["fields"][0].update(name="renamed"), "cannot"),
        (lambda s: s["fields"][0].update(type={"type": "map", "values": "double"}), "mismatch"),
        (lambda s: s.update(name="Other"), "named"),
        (lambda s: s["fields"].append({"name": "x", "type": {"type": "array", "items": "null"}}), "no bytes"),
    ],
)
def test_the_gate_refuses_what_would_break_a_reader(record: str, change: Any, word: str) -> None:
    assert any(word in complaint for complaint in changed(record, change))


def test_the_gate_refuses_a_version_out_of_order() -> None:
    text = schema_versions("Heartbeat")[1]
    assert complaints("Heartbeat", {1: text, 3: text})


def test_a_widened_field_is_refused_though_new_readers_could_live_with_it() -> None:
    def widen(schema: Any) -> None:
        field = next(each for each in schema["fields"] if each["type"] in ("int", "long"))
        field["type"] = "double"

    assert any("mismatch" in complaint for complaint in changed("InferenceRequest", widen))


def test_a_documentation_change_keeps_the_meaning_and_a_default_does_not() -> None:
    text = schema_versions("InferenceRequest")[1]
    schema = json.loads(text)
    schema["doc"] = "said otherwise"
    schema["fields"][0]["doc"] = "said otherwise"
    assert meaning(json.dumps(schema)) == meaning(text)
    field = next(each for each in schema["fields"] if "default" in each)
    field["default"] = "other"
    assert meaning(json.dumps(schema)) != meaning(text)
