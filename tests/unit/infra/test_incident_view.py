"""The life of incidents from memory's events, and what belongs to them."""

from __future__ import annotations

from infra.incident_view import (
    escalation_document,
    incident_document,
    incident_row,
    lives,
    time_of,
    unique,
)
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.review import Escalation
from streams.canonical import to_json
from streams.memory_view import ActiveVersion, Incident

CAUSE = RecordCoordinate("control.alerts", 0, 4)
BURN = "slo_burn/digits/errors/fast/5"
ROLLBACK = "rollback/digits/9"


def event(sequence: int, kind: str, key: str, body: object, command_id: str, reason: str = "why") -> MemoryEvent:
    text = None if body is None else to_json(body)
    return MemoryEvent(
        sequence, b"", command_id, "orchestrator", kind, key, 1, text, reason, (CAUSE,), sequence * 1_500_000
    )


def incident(identity: str, kind: str) -> Incident:
    return Incident(identity, kind, "digits", "critical", f"{kind}.", '{"speed":"fast"}')


EVENTS = (
    event(1, "VersionActivated", "active/digits", ActiveVersion("digits", "v2.0.0"), "c1"),
    event(2, "IncidentRaised", f"incident/{BURN}", incident(BURN, "slo_burn"), f"{BURN}/raised"),
    event(3, "VersionRolledBack", "active/digits", ActiveVersion("digits", "v1.0.0"), f"{BURN}/rollback"),
    event(4, "RollbackStarted", "rollback/digits", {"some": "body"}, f"{BURN}/rollback"),
    event(5, "IncidentRaised", f"incident/{ROLLBACK}", incident(ROLLBACK, "rollback"), f"{BURN}/rollback"),
    event(6, "RollbackChecked", "rollback/digits", {"some": "body"}, f"{ROLLBACK}/serving"),
    event(7, "IncidentResolved", f"incident/{BURN}", None, f"{BURN}/resolved", "it is over"),
    event(8, "RollbackVerified", "rollback/digits", {"some": "body"}, "good/digits/v1.0.0/8"),
    event(9, "IncidentResolved", f"incident/{ROLLBACK}", None, "good/digits/v1.0.0/8"),
    event(10, "IncidentRaised", f"incident/{BURN}", incident(BURN, "slo_burn"), f"{BURN}/raised"),
)
TOLD = Escalation(ROLLBACK, "orchestrator", "digits", "digits is rolled back.", 7_500_000, (CAUSE,))


def test_each_life_has_its_end_and_its_decisions() -> None:
    burn, rollback, again = lives(EVENTS)
    assert [each.incident.incident_id for each in (burn, rollback, again)] == [BURN, ROLLBACK, BURN]
    assert [None if each.resolved is None else each.resolved.sequence for each in (burn, rollback, again)] == [
        7,
        9,
        None,
    ]
    assert [each.sequence for each in burn.decisions] == [3, 4, 5]
    kinds = [each.kind for each in rollback.decisions]
    assert kinds == ["VersionRolledBack", "RollbackStarted", "RollbackChecked", "RollbackVerified"]
    assert again.decisions == ()


def test_a_roll_backs_document_says_what_was_decided_and_told() -> None:
    _, rollback, again = lives(EVENTS)
    document = incident_document(rollback, (TOLD, TOLD))
    assert document["state"] == "resolved"
    assert (document["since"], document["until"]) == ("1970-01-01T00:00:07.500Z", "1970-01-01T00:00:13.500Z")
    assert document["evidence"] == {"speed": "fast"}
    assert document["causes"] == ["control.alerts-0@4"]
    assert document["decisions"][1]["kind"] == "RollbackStarted"
    assert [each["reason"] for each in document["escalations"]] == ["digits is rolled back."]
    assert incident_row(again)["until"] is None


def test_an_escalation_that_was_sent_again_is_one() -> None:
    other = Escalation("other", "reviewer", "x", "y", 1)
    assert unique((TOLD, other, TOLD)) == [TOLD, other]
    assert escalation_document(TOLD)["causes"] == ["control.alerts-0@4"]


def test_a_moment_to_the_millisecond() -> None:
    assert time_of(1_769_860_800_042_999) == "2026-01-31T12:00:00.042Z"


def test_a_resolution_of_what_was_never_raised_is_no_life() -> None:
    assert lives((event(1, "IncidentResolved", "incident/x", None, "c"),)) == []
