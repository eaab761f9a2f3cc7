"""What a registration, a deletion or a setting writes, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from streams.codec import SCHEMA_TEXTS, subject_of
from streams.registry import changes as changes
from streams.registry.changes import Change
from streams.registry.rules import RegistryError, level_of, mode_of
from streams.registry.schema_log import SchemaLog, fold, missing, mode_record, schema_ids, schema_record
from tests.support.schemas import record
from tests.unit.streams.registry.test_rules import LOG, OURS, refusal

BASE, ADDED, REQUIRED = (
    record(("a", "long")),
    record(("a", "long"), ("b", "string", "")),
    record(("a", "long"), ("b", "string")),
)


def after(log: SchemaLog, change: Change) -> SchemaLog:
    return fold(log, change.records)


def test_the_first_of_a_subject_and_the_same_again() -> None:
    change = changes.register(SchemaLog(), "s", BASE)
    assert (change.answer.version, change.answer.schema_id, len(change.records)) == (1, 1, 1)
    log = after(SchemaLog(), change)
    again = changes.register(log, "s", json.dumps(json.loads(BASE), indent=4))
    assert (again.answer.schema_id, again.records) == (1, ())
    elsewhere = changes.register(log, "t", BASE)
    assert (elsewhere.answer.version, elsewhere.answer.schema_id, len(elsewhere.records)) == (1, 1, 1)


def test_the_next_version_gets_the_next_id() -> None:
    log = after(SchemaLog(), changes.register(SchemaLog(), "s", BASE))
    change = changes.register(log, "s", ADDED)
    assert (change.answer.version, change.answer.schema_id) == (2, 2)
    assert refusal(changes.register, log, "s", REQUIRED) == (409, 409)
    assert changes.register(after(log, changes.set_level(log, "s", "NONE")), "s", REQUIRED).records


def test_ours_takes_a_compatible_version_and_no_other() -> None:
    schema = json.loads(SCHEMA_TEXTS["InferenceRequest"])
    schema["fields"].append({"name": "colour", "type": ["null", "string"], "default": None})
    change = changes.register(LOG, OURS, json.dumps(schema))
    assert (change.answer.version, change.answer.schema_id) == (2, LOG.next_id)
    del schema["fields"][-1]["default"]
    assert refusal(changes.register, LOG, OURS, json.dumps(schema)) == (409, 409)
    del schema["fields"][-1], schema["fields"][0]
    assert refusal(changes.register, LOG, OURS, json.dumps(schema)) == (409, 409)


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\nb", "\x00"])
def test_a_subject_has_a_name(subject: str) -> None:
    assert refusal(changes.register, LOG, subject, BASE) == (422, 42208)


def test_what_could_run_away_is_refused_with_the_sentence() -> None:
    recursive = record(("next", ["null", "R"]))
    for text, word in ((recursive, "recursive"), ('{"type":"array","items":"null"}', "no bytes")):
        with pytest.raises(RegistryError, match=word) as caught:
            changes.register(LOG, "s", text)
        assert (caught.value.status, caught.value.code) == (422, 42201)


def test_read_only_subjects_change_nothing_but_their_mode() -> None:
    log = fold(after(LOG, changes.register(LOG, "s", BASE)), [mode_record("s", "READONLY")])
    assert changes.register(log, "s", BASE).records == ()  # nothing is written, so nothing is refused
    assert refusal(changes.register, log, "s", ADDED) == (422, 42205)
    assert refusal(changes.delete_subject, log, "s", permanent=False) == (422, 42205)
    assert refusal(changes.delete_version, log, "s", "1", permanent=False) == (422, 42205)
    assert refusal(changes.set_level, log, "s", "FULL") == (422, 42205)
    assert refusal(changes.unset_level, fold(LOG, [mode_record("", "READONLY")]), "") == (422, 42205)
    assert changes.register(log, "t", BASE).records
    assert mode_of(after(log, changes.unset_mode(log, "s")), "s") == "READWRITE"


def test_a_deleted_version_comes_back_as_a_new_one_with_its_id() -> None:
    log = after(SchemaLog(), changes.register(SchemaLog(), "s", BASE))
    log = after(log, changes.register(log, "s", ADDED))
    change = changes.delete_version(log, "s", "latest", permanent=False)
    assert change.answer == 2
    log = after(log, change)
    assert refusal(changes.delete_version, log, "s", "2", permanent=False) == (404, 40406)
    assert refusal(changes.delete_version, log, "s", "1", permanent=True) == (404, 40407)
    back = changes.register(log, "s", ADDED)
    assert (back.answer.version, back.answer.schema_id) == (3, 2)
    gone = changes.delete_version(log, "s", "2", permanent=True)
    log = after(log, gone)
    assert [entry.version for entry in log.of("s", deleted=True)] == [1]
    assert refusal(changes.delete_version, log, "s", "2", permanent=True) == (404, 40402)


def test_a_subject_is_hidden_and_then_deleted_for_good_and_no_id_comes_twice() -> None:
    log = after(SchemaLog(), changes.register(SchemaLog(), "s", BASE))
    log = after(log, changes.register(log, "s", ADDED))
    log = after(log, changes.set_level(log, "s", "NONE"))
    assert refusal(changes.delete_subject, log, "s", permanent=True) == (404, 40405)
    hidden = changes.delete_subject(log, "s", permanent=False)
    assert hidden.answer == [1, 2]
    log = after(log, hidden)
    assert refusal(changes.delete_subject, log, "s", permanent=False) == (404, 40404)
    gone = changes.delete_subject(log, "s", permanent=True)
    assert gone.answer == [1, 2]
    log = after(log, gone)
    assert (log.versions, log.levels, level_of(log, "s")) == ({}, {}, "BACKWARD")
    assert refusal(changes.delete_subject, log, "s", permanent=False) == (404, 40401)
    assert changes.register(log, "s", REQUIRED).answer.schema_id == 3


def test_ours_are_neither_hidden_nor_deleted_for_good() -> None:
    assert refusal(changes.delete_subject, LOG, OURS, permanent=False) == (422, 42205)
    assert refusal(changes.delete_version, LOG, OURS, "1", permanent=False) == (422, 42205)
    schema = json.loads(SCHEMA_TEXTS["InferenceRequest"])
    schema["fields"].append({"name": "colour", "type": "string", "default": ""})
    log = after(LOG, changes.register(LOG, OURS, json.dumps(schema)))
    log = after(log, changes.delete_version(log, OURS, "2", permanent=False))
    assert schema_ids(log).write_ids == schema_ids(LOG).write_ids
    assert refusal(changes.delete_version, log, OURS, "2", permanent=True) == (422, 42205)


def test_levels_and_modes() -> None:
    change = changes.set_level(LOG, "", "FULL")
    assert change.answer == "FULL"
    log = after(LOG, change)
    assert changes.set_level(log, "", "FULL").records == ()
    assert level_of(log, "a") == "FULL"
    unset = changes.unset_level(log, "")
    assert unset.answer == "FULL"
    assert level_of(after(log, unset), "a") == "BACKWARD"
    for level in ("SIDEWAYS", None, 7, "full"):
        assert refusal(changes.set_level, LOG, "a", level) == (422, 42203)
    for mode in ("IMPORT", None, 7):
        assert refusal(changes.set_mode, LOG, "a", mode) == (422, 42204)
    log = after(LOG, changes.set_mode(LOG, "a", "READONLY"))
    assert changes.set_mode(log, "a", "READONLY").records == ()
    assert changes.unset_mode(log, "a").answer == "READONLY"


class RegistryMachine(RuleBasedStateMachine):
    """Any order of changes: an id means one schema for ever, and our processes can always write."""

    texts = Bundle("texts")

    def __init__(self) -> None:
        super().__init__()
        self.log = fold(SchemaLog(), map(schema_record, missing(SchemaLog())))
        self.meaning: dict[int, str] = {}
        self.ours = schema_ids(self.log).write_ids

    def make(self, decide: object) -> None:
        try:
            made = decide(self.log)  # type: ignore[operator]
        except RegistryError:
            return
        self.log = fold(self.log, made.records)

    @rule(subject=st.sampled_from(["a", "b", OURS]), n=st.integers(0, 4), default=st.booleans())
    def register(self, subject: str, n: int, default: bool) -> None:
        text = record(*((f"f{k}", "long", 0) if default else (f"f{k}", "long") for k in range(n)))
        self.make(lambda log: changes.register(log, subject, text))

    @rule(subject=st.sampled_from(["a", "b", OURS]), permanent=st.booleans())
    def delete_subject(self, subject: str, permanent: bool) -> None:
        self.make(lambda log: changes.delete_subject(log, subject, permanent=permanent))

    @rule(subject=st.sampled_from(["a", "b", OURS]), number=st.integers(1, 4), permanent=st.booleans())
    def delete_version(self, subject: str, number: int, permanent: bool) -> None:
        self.make(lambda log: changes.delete_version(log, subject, str(number), permanent=permanent))

    @rule(subject=st.sampled_from(["", "a", OURS]), level=st.sampled_from(["NONE", "FULL", "BACKWARD"]))
    def set_level(self, subject: str, level: str) -> None:
        self.make(lambda log: changes.set_level(log, subject, level))

    @rule(subject=st.sampled_from(["", "a"]), mode=st.sampled_from(["READWRITE", "READONLY"]))
    def set_mode(self, subject: str, mode: str) -> None:
        self.make(lambda log: changes.set_mode(log, subject, mode))

    @invariant()
    def an_id_means_one_schema(self) -> None:
        for entry in self.log.versions.values():
            assert self.meaning.setdefault(entry.schema_id, entry.normal) == entry.normal
        normals = {entry.normal: entry.schema_id for entry in self.log.versions.values()}
        assert all(normals[entry.normal] == entry.schema_id for entry in self.log.versions.values())

    @invariant()
    def ours_can_be_written(self) -> None:
        assert schema_ids(self.log).write_ids == self.ours
        assert subject_of("inference.requests") in self.log.subjects()


TestRegistry = RegistryMachine.TestCase
