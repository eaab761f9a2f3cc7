"""Which cause has which checks run."""

from __future__ import annotations

import pytest

from agents.check_rules import Facts
from agents.check_triggers import OF_ACTIVATION, OF_ALERT, OF_ROLLBACK, due_of_alert, due_of_canary, due_of_move
from schemas.canary import Canary
from schemas.check import CHECKS, GoldenSet
from schemas.known_good import Rollback
from schemas.memory import MemoryEvent
from schemas.telemetry import Alert
from streams.canonical import to_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion
from tests.support.control import HERE, at

GOLDEN = GoldenSet("digits", "ab" * 32, 4_000, 540, "labels", "classes", 950_000)


def moved(kind: str, body: str = to_json(ActiveVersion("digits", "v1.0.0"))) -> MemoryEvent:
    return MemoryEvent(7, bytes(32), "c", "cli", kind, "active/digits", 1, body, "", (), 5)


def test_all_that_is_asked_for_are_checks() -> None:
    asked = {*OF_ROLLBACK, *OF_ACTIVATION, *(check for checks in OF_ALERT.values() for check in checks)}
    assert asked == set(CHECKS)


@pytest.mark.parametrize(("model", "version"), [("", ""), ("digits", "v2.0.0")])
def test_an_alert_names_its_model_or_is_about_its_subject(model: str, version: str) -> None:
    alert = Alert("a1", "drift", "digits", "warning", "Other rows.", "", False, 5, (), model, version)
    due = due_of_alert(alert, at(alert, 9))
    assert (due.model, due.version, due.checks, due.alert_id) == ("digits", version, OF_ALERT["drift"], "a1")
    assert (due.reason, due.since_us, due.causes) == ("Other rows.", 9, (HERE,))


@pytest.mark.parametrize(
    ("kind", "golden", "wanted"),
    [
        ("VersionRolledBack", None, ("rollback/digits/7", OF_ROLLBACK)),
        ("VersionRolledBack", GOLDEN, ("rollback/digits/7", OF_ROLLBACK)),
        ("VersionActivated", GOLDEN, ("activation/digits/7", OF_ACTIVATION)),
        ("VersionActivated", None, None),
    ],
)
def test_a_move_is_checked_by_what_there_is(
    kind: str, golden: GoldenSet | None, wanted: tuple[str, tuple[str, ...]] | None
) -> None:
    event = moved(kind)
    found = due_of_move({"digits": Facts(golden=golden)}, event, at(event, 9))
    assert (None if found is None else (found[0], found[1].checks)) == wanted


@pytest.mark.parametrize(("golden", "asks"), [(GOLDEN, True), (None, False)])
def test_a_canary_is_checked_by_its_own_version(golden: GoldenSet | None, asks: bool) -> None:
    event = moved("CanarySet", to_json(Canary("digits", "v2.0.0", 5)))
    found = due_of_canary({"digits": Facts(golden=golden)}, event, at(event, 9))
    assert (found is not None) == asks
    assert due_of_canary({}, event, at(event, 9)) is None
    if found is not None:
        cause, due = found
        assert (cause, due.model, due.version, due.checks) == ("canary/digits/7", "digits", "v2.0.0", OF_ACTIVATION)
        assert due.reason == "digits v2.0.0 is a canary of 5 percent"


@pytest.mark.parametrize(("before", "asks"), [("v1.0.0", True), ("v2.0.0", False)])
def test_a_roll_back_that_lets_the_version_stay_is_checked_too(before: str, asks: bool) -> None:
    """One that changes the version is checked for that."""
    rollback = Rollback("rollback/digits/5", "digits", before, "v1.0.0", "a1", "why", 5, restored=("hedge",))
    event = moved("RollbackStarted", to_json(rollback))
    found = due_of_move({"digits": Facts()}, event, at(event, 9))
    assert (found is not None) == asks
    if found is not None:
        assert (found[0], found[1].model, found[1].checks) == ("rollback/digits/7", "digits", OF_ROLLBACK)


def test_a_body_that_cannot_be_read_is_said() -> None:
    event = moved("VersionRolledBack", "{}")
    with pytest.raises(PoisonRecordError):
        due_of_move({}, event, at(event, 9))
