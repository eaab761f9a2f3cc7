"""What the registry answers, and the numbers of its refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams.codec import SCHEMA_TEXTS, subject_of
from streams.registry import rules as rules
from streams.registry.rules import RegistryError
from streams.registry.schema_log import (
    SchemaLog,
    SchemaVersion,
    fold,
    level_record,
    missing,
    mode_record,
    schema_record,
)
from streams.registry.schema_text import normalise

OURS = subject_of("inference.requests")
LONG, STRING = '{"type":"long"}', '"string"'


def version(subject: str, number: int, schema_id: int, text: str, *, deleted: bool = False) -> tuple[bytes, bytes]:
    return schema_record(SchemaVersion(subject, number, schema_id, text, text, deleted))


LOG = fold(
    fold(SchemaLog(), map(schema_record, missing(SchemaLog()))),
    [version("a", 1, 90, LONG), version("a", 2, 91, STRING), version("a", 3, 92, '"int"', deleted=True)],
)


def refusal(ask: Callable[..., Any], *given: Any, **more: Any) -> tuple[int, int]:
    with pytest.raises(RegistryError) as caught:
        ask(*given, **more)
    assert caught.value.message
    assert str(caught.value).startswith(str(caught.value.code))
    return caught.value.status, caught.value.code


def test_versions() -> None:
    assert [entry.version for entry in rules.versions_of(LOG, "a")] == [1, 2]
    assert [entry.version for entry in rules.versions_of(LOG, "a", deleted=True)] == [1, 2, 3]
    assert rules.version_of(LOG, "a", "latest").version == rules.version_of(LOG, "a", "-1").version == 2
    assert rules.version_of(LOG, "a", "1").schema_id == 90
    assert rules.version_of(LOG, "a", "3", deleted=True).deleted
    assert refusal(rules.versions_of, LOG, "none") == (404, 40401)
    assert refusal(rules.version_of, LOG, "none", "1") == (404, 40401)
    assert refusal(rules.version_of, LOG, "a", "3") == (404, 40402)


@pytest.mark.parametrize("wanted", ["0", "-2", "x", "", "1.0", "²", "99999999999", "9" * 5_000])
def test_what_is_no_version(wanted: str) -> None:
    assert refusal(rules.version_of, LOG, "a", wanted) == (422, 42202)


def test_schemas_by_id_and_identifier() -> None:
    assert [entry.subject for entry in rules.schema_of(LOG, "92")] == ["a"]  # hidden, yet readable
    for wanted in ("999", "x", "-1", "9" * 5_000):
        assert refusal(rules.schema_of, LOG, wanted) == (404, 40403)
    guid = rules.guid_of(rules.version_of(LOG, "a", "1"))
    assert rules.schema_by_guid(LOG, guid.upper()).schema_id == 90
    assert refusal(rules.schema_by_guid, LOG, "x") == (404, 40403)
    same = SchemaVersion("b", 9, 90, ' "long" ', normalise(' "long" '))
    assert rules.guid_of(same) == guid


def test_lookup_by_meaning() -> None:
    assert rules.find_schema(LOG, "a", ' "long" ').version == 1
    assert rules.find_schema(LOG, "a", '"int"', deleted=True).version == 3
    assert refusal(rules.find_schema, LOG, "a", '"int"') == (404, 40403)
    assert refusal(rules.find_schema, LOG, "none", '"int"') == (404, 40401)
    assert refusal(rules.find_schema, LOG, "a", "{") == (422, 42201)


def test_levels_by_default_and_as_set() -> None:
    assert rules.level_of(LOG, OURS) == rules.level_set(LOG, OURS) == "FULL_TRANSITIVE"
    assert rules.level_of(LOG, "a") == rules.level_set(LOG, "") == "BACKWARD"
    assert refusal(rules.level_set, LOG, "a") == (404, 40408)
    log = fold(LOG, [level_record("", "NONE")])
    assert (rules.level_of(log, "a"), rules.level_of(log, OURS)) == ("NONE", "FULL_TRANSITIVE")
    log = fold(log, [level_record("a", "FULL"), level_record(OURS, "BACKWARD")])
    assert (rules.level_set(log, "a"), rules.level_of(log, OURS)) == ("FULL", "BACKWARD")


def test_modes_by_default_and_as_set() -> None:
    assert rules.mode_of(LOG, "a") == rules.mode_set(LOG, "") == "READWRITE"
    assert refusal(rules.mode_set, LOG, "a") == (404, 40409)
    log = fold(LOG, [mode_record("", "READONLY"), mode_record("a", "READWRITE")])
    assert (rules.mode_of(log, "a"), rules.mode_set(log, "a"), rules.mode_of(log, "b")) == (
        "READWRITE",
        "READWRITE",
        "READONLY",
    )


def test_compatibility_with_ours() -> None:
    text = SCHEMA_TEXTS["InferenceRequest"]
    versions = rules.versions_of(LOG, OURS)
    assert rules.incompatibilities(LOG, OURS, text, versions) == ()
    assert rules.incompatibilities(LOG, OURS, '"long"', versions)
    assert rules.incompatibilities(fold(LOG, [level_record(OURS, "NONE")]), OURS, '"long"', versions) == ()
    assert refusal(rules.incompatibilities, LOG, OURS, "{", versions) == (422, 42201)
    assert rules.is_ours(OURS)
    assert not rules.is_ours("a")


def test_an_earlier_version_that_cannot_be_parsed_is_said_so() -> None:
    log = fold(SchemaLog(), [version("a", 1, 1, "{")])
    assert refusal(rules.incompatibilities, log, "a", LONG, log.of("a")) == (422, 42201)
