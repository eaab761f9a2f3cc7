"""An operation's two records, and how errors are told apart."""

from __future__ import annotations

import asyncio

from infra.audit_spool import MAX_BYTES
from schemas.audit import AuditMetric
from streams.audit_operation import FAILED, Actor, Facts, Operation, outcome_of
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.connection import TimedOutError
from streams.errors import IsosError

ACTOR = Actor("alice", "cli", "production", "CHG-7", "isos models activate digits v2.0.0")
FACTS = Facts("digits", "v2.0.0", "v1.0.0", "all_at_once", ("replicas=2",), True, "active-1")


class RefusedBySomebodyError(IsosError):
    exit_code = 4


def made() -> Operation:
    return Operation(ACTOR, "models.activate", "op1", 5_000_000, FACTS)


def test_before_says_who_and_what() -> None:
    before = made().before()
    assert (before.operation_id, before.phase, before.timestamp_us) == ("op1", "before", 5_000_000)
    assert (before.user, before.change_ticket, before.environment) == ("alice", "CHG-7", "production")
    assert (before.source, before.command, before.command_id) == ("cli", ACTOR.command, "active-1")
    assert (before.operation, before.model_name, before.model_version) == ("models.activate", "digits", "v2.0.0")
    assert (before.previous_version, before.deployment_strategy) == ("v1.0.0", "all_at_once")
    assert (before.resources, before.rollback_available) == (("replicas=2",), True)
    assert (before.outcome, before.duration_seconds, before.error_detail) == ("pending", 0.0, "")
    assert (before.service, before.team) == ("ml-serving", "ml-engineering")


def test_after_says_how_it_ended() -> None:
    operation = made()
    operation.affected("active/digits", "plan/digits")
    operation.affected("active/digits")
    operation.metric("wait_ms", 12)
    after = operation.after(7_500_000)
    assert (after.phase, after.operation_id, after.outcome) == ("after", "op1", "done")
    assert after.resources_affected == ("active/digits", "plan/digits")
    assert (after.duration_seconds, after.performance_metrics) == (2.5, (AuditMetric("wait_ms", 12.0),))
    assert operation.after(1).duration_seconds == 0.0  # a clock that went back


def test_what_a_record_holds_is_text_of_bounded_length() -> None:
    """Arguments of a command line may be bytes that are no text; names may be many."""
    actor = Actor("alice\udcff", "cli", command="isos up \udcfe")
    operation = Operation(actor, "x" * 9_000, "op1", 5, Facts("m" * 9_000, resources=("r" * 9_000,) * 9))
    operation.affected(*(f"key/{number}" for number in range(1_000)))
    operation.ends(FAILED, "\udcff" * 9_000)
    before, after = operation.before(), operation.after(6)
    assert (before.user, before.command) == ("alice?", "isos up ?")
    assert (len(after.resources_affected), after.resources_affected[-1]) == (101, "and 900 more")
    assert len(Codec(SchemaIds.local()).encode("audit.intake", after)) < 65_536
    assert len(to_json(after).encode()) < MAX_BYTES


def test_errors_are_refusals_failures_or_unknown() -> None:
    assert outcome_of(RefusedBySomebodyError("stale")) == ("refused", "stale")
    assert outcome_of(TimedOutError("the answer", 3)) == ("unknown", "the answer took longer than 3 s")
    assert outcome_of(asyncio.CancelledError()) == ("unknown", "it was interrupted")
    assert outcome_of(ValueError()) == ("failed", "ValueError")
    operation = made()
    operation.ends_by(RefusedBySomebodyError("x" * 5_000))
    assert (operation.after(1).outcome, len(operation.after(1).error_detail)) == ("refused", 2_000)
