"""Events of memory as audit records."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from schemas.environment import Environment
from schemas.memory import MemoryEntry, MemoryEvent
from schemas.plan import Plan, VersionWeight
from streams.audit_facts import audited, environment_name, unreadable, void_event
from streams.canonical import to_json
from streams.memory_view import ActiveVersion, Incident, MemoryView, Rejection

T = 1_700_000_000_000_000


def view(**bodies: str) -> MemoryView:
    keys = {key.replace("__", "/"): body for key, body in bodies.items()}
    entries = {key: MemoryEntry(key, 1, 1, body, T) for key, body in keys.items()}
    return replace(MemoryView(), entries=MappingProxyType(entries))


def event(kind: str, key: str, body: str | None, agent: str = "cli") -> MemoryEvent:
    return MemoryEvent(9, bytes(32), "c9", agent, kind, key, 2, body, "because", (), T)


def active(version: str) -> str:
    return to_json(ActiveVersion("digits", version))


def test_an_activation_names_the_version_before() -> None:
    production = to_json(Environment("production"))
    found = audited(
        view(active__digits=active("v1.0.0"), environment=production),
        event("VersionActivated", "active/digits", active("v2.0.0")),
    )
    assert found is not None
    before, after = found
    assert (before.phase, after.phase, before.operation_id, after.operation_id) == (
        *("before", "after"),
        *("memory-9", "memory-9"),
    )
    for each in found:
        assert (each.model_name, each.model_version, each.previous_version) == ("digits", "v2.0.0", "v1.0.0")
        assert (each.deployment_strategy, each.rollback_available) == ("all_at_once", True)
        assert (each.user, each.environment, each.command_id) == ("cli", "production", "c9")
        assert (each.operation, each.timestamp_us, each.source) == ("memory.VersionActivated", T, "orchestrator")
        assert each.command == "VersionActivated active/digits: because"
    assert (before.outcome, after.outcome, after.resources_affected) == ("pending", "done", ("active/digits",))


def test_a_first_version_has_nothing_to_go_back_to() -> None:
    found = audited(view(), event("VersionActivated", "active/digits", active("v1.0.0")))
    assert found is not None
    assert (found[1].previous_version, found[1].rollback_available) == ("", False)


def test_a_plan_names_the_version_with_the_largest_share() -> None:
    old = Plan("digits", (VersionWeight("v1.0.0", 100), VersionWeight("v3.0.0", 0)), 8, 30_000)
    new = Plan("digits", (VersionWeight("v1.0.0", 10), VersionWeight("v2.0.0", 90)), 8, 30_000)
    found = audited(view(plan__digits=to_json(old)), event("PlanMadeEffective", "plan/digits", to_json(new), "planner"))
    assert found is not None
    after = found[1]
    assert (after.model_version, after.previous_version, after.deployment_strategy) == ("v2.0.0", "v1.0.0", "weighted")
    assert (after.user, after.rollback_available) == ("planner", True)
    alone = audited(view(), event("PlanMadeEffective", "plan/digits", to_json(old)))
    assert alone is not None
    assert (alone[1].deployment_strategy, alone[1].previous_version) == ("all_at_once", "")


def test_a_registration_and_a_breaker_name_the_version_of_their_key() -> None:
    for key in ("model/digits/v2.0.0", "breaker/digits/v2.0.0"):
        found = audited(view(active__digits=active("v1.0.0")), event("Some", key, "{}"))
        assert found is not None
        assert (found[1].model_name, found[1].model_version, found[1].previous_version) == (
            "digits",
            "v2.0.0",
            "v1.0.0",
        )
        assert (found[1].deployment_strategy, found[1].rollback_available) == ("", False)


def test_a_refusal_says_why() -> None:
    body = to_json(Rejection("c9", "stale", "It changed."))
    found = audited(view(), event("CommandRejected", "rejections/c9", body))
    assert found is not None
    assert (found[1].outcome, found[1].error_detail, found[1].resources_affected) == (
        "refused",
        "stale: It changed.",
        (),
    )


def test_an_incident_is_of_no_model_and_a_parked_command_of_its_own() -> None:
    incident = to_json(Incident("i1", "silent", "edge-0", "critical", "m", "{}"))
    found = audited(view(), event("IncidentRaised", "incident/i1", incident, "monitor"))
    assert found is not None
    assert (found[1].model_name, found[1].resources_affected, found[1].user) == ("", ("incident/i1",), "monitor")
    parked = audited(view(), event("ReviewOpened", "review/r1", '{"command":{"key":"active/digits"},"request":{}}'))
    assert parked is not None
    assert parked[1].model_name == "digits"


@pytest.mark.parametrize("body", [None, "", "no json", "[1]", '{"versions":3}', '{"version":7}', '{"command":1}'])
def test_any_body_gives_records(body: str | None) -> None:
    assert audited(view(), event("Whatever", "plan/digits", body)) is not None


def test_what_only_makes_room_is_no_operation() -> None:
    assert audited(view(), event("RejectionForgotten", "rejections/c1", None)) is None


def test_what_somebody_else_wrote_is_a_failed_operation() -> None:
    for record, offset in (
        (void_event("staging", 7, "it is garbage", T), "7"),
        (unreadable("staging", 8, "x", T), "8"),
    ):
        assert (record.phase, record.outcome, record.environment, record.user) == (
            *("after", "failed"),
            *("staging", "unknown"),
        )
        assert offset in record.error_detail
        assert record.operation_id.endswith(offset)


def test_the_environment_is_a_sandbox_unless_memory_says_otherwise() -> None:
    assert environment_name(view()) == "sandbox"
    assert environment_name(view(environment=to_json(Environment("staging")))) == "staging"
