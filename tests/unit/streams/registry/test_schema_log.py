"""The fold of the schema log, and the ids it gives."""

from __future__ import annotations

import json

import pytest

from streams.codec import SCHEMA_TEXTS, SchemaIds, subject_of
from streams.registry.schema_log import (
    SchemaLog,
    SchemaVersion,
    erased_record,
    fold,
    hidden_record,
    highest_id_record,
    level_record,
    missing,
    mode_record,
    schema_ids,
    schema_record,
)
from streams.registry.schema_text import SchemaRefusedError

S = subject_of("inference.requests")
LONG, STRING = '{"type":"long"}', '"string"'


def entry(subject: str, version: int, schema_id: int, text: str, *, deleted: bool = False) -> tuple[bytes, bytes]:
    return schema_record(SchemaVersion(subject, version, schema_id, text, text, deleted))


def key(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_versions_in_order_and_tombstones() -> None:
    log = fold(SchemaLog(), [entry("a", 2, 8, STRING), entry("a", 1, 7, LONG), entry("b", 1, 7, LONG)])
    assert [found.version for found in log.of("a")] == [1, 2]
    assert log.subjects() == ["a", "b"]
    assert [(found.subject, found.version) for found in log.by_id(7)] == [("a", 1), ("b", 1)]
    assert log.next_id == 9
    gone = fold(log, [(entry("b", 1, 7, LONG)[0], None)])
    assert gone.subjects() == ["a"]
    assert log.subjects() == ["a", "b"]


def test_what_other_registries_write_beside_schemas_is_passed_over() -> None:
    records = [
        (key(keytype="NOOP", magic=0), None),
        (key(keytype="CONFIG", subject="a", magic=0), b'{"compatibilityLevel":7}'),
        (key(keytype="DELETE_SUBJECT", subject="a", magic=0), b'{"subject":"a"}'),
        (key(keytype="HIGHEST_ID", magic=0), b'{"id":"many"}'),
        (key(keytype="SCHEMA", subject="a", version="x", magic=1), b'{"id":1,"schema":"x"}'),
        (key(keytype="SCHEMA", subject="a", version=1, magic=1), b'{"id":0,"schema":"x"}'),
        (key(keytype="SCHEMA", subject="a", version=1, magic=1), b'{"id":2147483648,"schema":"x"}'),
        (b"not json", b"{}"),
        (None, b"{}"),
        (b'"text"', b"{}"),
        (key(keytype="SCHEMA", subject="a", version=1, magic=1), b"not json"),
        (key(keytype="SCHEMA", subject="p", version=1, magic=1), b'{"id":1,"schema":"x","schemaType":"PROTOBUF"}'),
    ]
    assert fold(SchemaLog(), records) == SchemaLog({})


def test_a_deleted_subject_is_hidden_but_its_ids_stay_readable() -> None:
    log = fold(SchemaLog(), [entry("a", 1, 3, LONG), entry("a", 2, 4, STRING)])
    log = fold(log, [(key(keytype="DELETE_SUBJECT", subject="a", magic=0), b'{"subject":"a","version":1}')])
    assert [found.version for found in log.of("a")] == [2]
    assert len(log.by_id(3)) == 1


def test_levels_and_modes_are_set_and_unset() -> None:
    log = fold(SchemaLog(), [level_record("", "FULL"), level_record("a", "NONE"), mode_record("a", "READONLY")])
    assert (log.levels, log.modes) == ({"": "FULL", "a": "NONE"}, {"a": "READONLY"})
    log = fold(log, [level_record("a", None), mode_record("a", None)])
    assert (log.levels, log.modes) == ({"": "FULL"}, {})


def test_ids_above_the_highest_ever_given_out() -> None:
    log = fold(SchemaLog(), [entry("a", 1, 7, LONG), highest_id_record(7)])
    log = fold(log, [erased_record(log.of("a")[0])])
    assert log.versions == {}
    assert log.next_id == 8


def test_a_hidden_schema_of_ours_is_still_written_with() -> None:
    log = fold(SchemaLog(), map(schema_record, missing(SchemaLog())))
    hidden = fold(log, [hidden_record(S, 1)])
    assert S not in hidden.subjects()
    assert S in hidden.subjects(deleted=True)
    assert schema_ids(hidden).write_ids == schema_ids(log).write_ids
    again = fold(hidden, map(schema_record, missing(hidden)))
    assert schema_ids(again).write_ids == schema_ids(log).write_ids
    assert [found.version for found in again.of(S)] == [2]


def test_a_deleted_version_is_hidden() -> None:
    assert fold(SchemaLog(), [entry("a", 1, 3, LONG, deleted=True)]).of("a") == []


def test_lookup_by_meaning() -> None:
    log = fold(SchemaLog(), [entry("a", 1, 3, LONG)])
    found = log.find("a", ' "long" ')
    assert found is not None
    assert found.schema_id == 3
    assert log.find("a", '"int"') is None
    with pytest.raises(SchemaRefusedError):
        log.find("a", "{")


def test_a_fresh_log_gets_dense_ids_and_one_id_per_schema() -> None:
    added = missing(SchemaLog())
    log = fold(SchemaLog(), map(schema_record, added))
    assert missing(log) == []
    assert sorted({found.schema_id for found in added}) == list(range(1, len(SCHEMA_TEXTS) + 1))
    assert schema_ids(log).write_ids == SchemaIds.local().write_ids
    frames = {schema_ids(log).write_ids[subject_of(f"inference.{name}")] for name in ("admitted", "routed", "executed")}
    assert len(frames) == 1


def test_the_subject_of_another_gets_our_schema_as_its_next_version() -> None:
    log = fold(SchemaLog(), [entry(S, 4, 40, LONG)])
    ours = next(found for found in missing(log) if found.subject == S)
    assert (ours.version, ours.schema_id) == (5, 41)
    ids = schema_ids(fold(log, map(schema_record, missing(log))))
    assert ids.write_ids[S] == 41
    assert S in ids.by_id[40].subjects


def test_a_schema_that_would_run_away_is_known_but_not_read_with() -> None:
    log = fold(SchemaLog(), [entry(S, 1, 9, '{"type":"array","items":"null"}'), entry(S, 2, 10, "{")])
    ids = schema_ids(log)
    assert ids.by_id[9].normal == ""
    assert ids.by_id[10].normal == ""


def test_strangers_schemas_are_not_read_with_unless_one_is_ours_too() -> None:
    log = fold(SchemaLog(), [entry("theirs-value", 1, 60, LONG), entry("also-theirs-value", 1, 61, STRING)])
    log = fold(log, [entry(S, 1, 61, STRING), entry("later-value", 1, 61, STRING)])
    ids = schema_ids(log)
    assert (ids.by_id[60].normal, ids.by_id[60].subjects) == ("", {"theirs-value"})
    assert ids.by_id[61].normal == STRING
    assert ids.by_id[61].subjects == {S, "also-theirs-value", "later-value"}
