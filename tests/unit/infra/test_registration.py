"""Registration, the pure part: ids that repeat, versions that never change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from executors.manifest import read_manifest
from infra.registration import RefusedError, checked_version, command_for, is_registered, versions
from schemas.memory import MemoryEntry
from schemas.model import ModelVersion
from streams.canonical import from_json, to_json
from streams.memory_view import MemoryView, Rejection
from tests.support import models

BLOB = models.identity()
FACTS = models.version_of(BLOB)
MANIFEST = """
inputs = [{name = "x", datatype = "FP32", shape = [-1, 4]}]
outputs = [{name = "y", datatype = "FP32", shape = [-1, 4]}]
"""


def view(sequence: int = 1, **bodies: str) -> MemoryView:
    return MemoryView(sequence, entries={key: MemoryEntry(key, 1, 1, body, 0) for key, body in bodies.items()})


def test_the_command_says_what_the_version_is() -> None:
    command = command_for(FACTS, view(), now_us=5)
    assert (command.kind, command.key, command.expected_version) == ("RegisterModel", "model/model/v1.0.0", 0)
    assert (command.agent, command.sent_us) == ("cli", 5)
    assert from_json(ModelVersion, command.body) == FACTS


def test_the_same_version_has_the_same_command_id() -> None:
    command = command_for(FACTS, view(1), now_us=5)
    assert command_for(FACTS, view(9), now_us=6).command_id == command.command_id
    assert command_for(replace(FACTS, max_batch_size=4), view(), now_us=5).command_id != command.command_id


def test_a_refused_command_is_not_answered_by_its_old_refusal() -> None:
    first = command_for(FACTS, view(), now_us=5)
    refused = to_json(Rejection(first.command_id, "not_allowed", "no"))
    second = command_for(FACTS, view(7, **{f"rejections/{first.command_id}": refused}), now_us=5)
    assert second.command_id != first.command_id


def test_a_version_never_changes() -> None:
    known = view(**{"model/model/v1.0.0": to_json(FACTS)})
    assert not is_registered(view(), FACTS)
    assert is_registered(known, FACTS)
    with pytest.raises(RefusedError, match="another file") as caught:
        is_registered(known, models.version_of(models.nan()))
    assert caught.value.exit_code == 4
    with pytest.raises(RefusedError, match="another manifest"):
        is_registered(known, replace(FACTS, deterministic=False))


def test_versions_of_one_model_and_of_all() -> None:
    other = replace(FACTS, model="other")
    known = view(**{"model/model/v1.0.0": to_json(FACTS), "model/other/v1.0.0": to_json(other)})
    assert versions(known) == (FACTS, other)
    assert versions(known, "other") == (other,)


def test_checked_version_gives_facts_or_the_first_reason() -> None:
    facts, findings = checked_version(BLOB, "model", "v1.0.0", read_manifest(MANIFEST))
    assert facts == FACTS
    assert all(finding.passed for finding in findings)
    with pytest.raises(RefusedError, match="model_readable"):
        checked_version(b"garbage", "model", "v1.0.0", read_manifest(MANIFEST))
