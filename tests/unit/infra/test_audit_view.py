"""Entries of the audit log as JSON with the agreed names, as rows, and by filter."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.audit_view import Filter, document, row
from tests.support.samples import SAMPLES

ENTRY = SAMPLES["AuditEntry"]
RECORD = ENTRY.record


def test_a_document_has_the_agreed_fields() -> None:
    found = document(ENTRY, RECORD)
    json.dumps(found)
    assert found["timestamp"] == "2023-11-14T22:13:20.000000Z"
    assert found["performance_metrics"] == {"wait_ms": 12.5}
    assert (found["service"], found["team"], found["error_detail"]) == (
        *("ml-serving", "ml-engineering"),
        "stale: it changed",
    )
    for name in ("user", "change_ticket", "environment", "operation", "model_name", "model_version", "command"):
        assert found[name] == getattr(RECORD, name)
    for name in ("previous_version", "deployment_strategy", "outcome", "rollback_available", "duration_seconds"):
        assert found[name] == getattr(RECORD, name)
    assert (found["resources"], found["resources_affected"]) == (["replicas=2"], ["active/digits"])
    assert document(ENTRY, replace(RECORD, error_detail="", model_name=""))["error_detail"] is None


def test_a_row_is_one_line() -> None:
    found = row(ENTRY, replace(RECORD, error_detail="x" * 99))
    assert (found["time"], found["model"], found["seconds"]) == ("2023-11-14T22:13:20.000Z", "digits v1.1.0", 0.5)
    assert len(found["detail"]) == 60
    before = row(
        ENTRY, replace(RECORD, phase="before", error_detail="", resources_affected=(), model_name="", model_version="")
    )
    assert (before["seconds"], before["detail"], before["model"]) == (None, None, None)


@pytest.mark.parametrize(
    ("wanted", "is_one"),
    [
        (Filter(), True),
        (Filter(operation="models."), True),
        (Filter(operation="memory."), False),
        (Filter(model="digits", user="alice", ticket="CHG-12", outcome="refused"), True),
        (Filter(model="digit"), False),
        (Filter(user="bob"), False),
        (Filter(ticket="CHG-1"), False),
        (Filter(outcome="done"), False),
        (Filter(until_us=RECORD.timestamp_us - 1), False),
    ],
)
def test_what_is_wanted(wanted: Filter, is_one: bool) -> None:
    assert wanted.wants(RECORD) is is_one
