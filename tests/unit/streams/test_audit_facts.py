"""Events of memory as audit records."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType

import pytest

from schemas.canary import Canary
from schemas.environment import Environment, Signer
from schemas.memory import MemoryEntry, MemoryEvent
from schemas.plan import Plan, VersionWeight
from streams.audit_chain import value_hash
from streams.audit_facts import EventFold, audited, environment_name, unreadable, void_event
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.memory_view import ActiveVersion, Incident, MemoryView, Rejection
from streams.signing import public_key_of

T = 1_700_000_000_000_000
CODEC = Codec(SchemaIds.local())


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


def test_a_canary_is_one_by_name_and_goes_back_to_the_active_version() -> None:
    body = to_json(Canary("digits", "v2.0.0", 5))
    found = audited(view(active__digits=active("v1.0.0")), event("CanarySet", "canary/digits", body))
    assert found is not None
    after = found[1]
    assert (after.model_version, after.previous_version, after.deployment_strategy) == ("v2.0.0", "v1.0.0", "canary")
    assert after.rollback_available


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


def stored(sequence: int, last: bytes, key: str, body: str | None) -> bytes:
    return CODEC.encode("memory.events", MemoryEvent(sequence, last, "c", "cli", "Some", key, 1, body, "", (), T))


def test_a_fold_hands_over_drafts_with_memory_as_it_stood() -> None:
    fold = EventFold(partial(CODEC.decode, "memory.events"))
    first = stored(1, bytes(32), "active/digits", active("v1.0.0"))
    before, after = fold.take(4, first, T)
    assert (before.origin, before.offset, before.more, after.more) == ("memory", 4, True, False)
    (void,) = fold.take(5, b"?", T)
    assert (void.record.operation, void.record.operation_id) == ("memory.foreign_write", "memory-void-5")
    assert fold.take(6, first, T)[0].record.error_detail.endswith("sequence 1 does not follow 1")
    _, after = fold.take(7, stored(2, value_hash(first), "active/digits", active("v2.0.0")), T)
    assert (after.record.previous_version, after.record.model_version) == ("v1.0.0", "v2.0.0")
    removed = stored(3, fold.head.last_hash, "active/digits", None)
    fold.take(8, removed, T)
    assert (fold.head.sequence, dict(fold.view.entries)) == (3, {})


def test_a_fold_knows_every_key_that_signed() -> None:
    fold = EventFold(partial(CODEC.decode, "memory.events"))
    for number, seed in enumerate((b"\x01" * 32, b"\x02" * 32, b"\x01" * 32), start=1):
        signer = to_json(Signer("orchestrator", public_key_of(seed), "process"))
        fold.take(number, stored(number, fold.head.last_hash, "signer/orchestrator", signer), T)
    fold.take(4, stored(4, fold.head.last_hash, "signer/orchestrator", '{"public_key":"none"}'), T)
    assert fold.public_keys == [public_key_of(b"\x01" * 32), public_key_of(b"\x02" * 32)]
