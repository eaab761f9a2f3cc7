"""A canary that is to blame is taken back at once, and the active version stays; all else is a roll-back's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.canary import Canary
from schemas.memory import MemoryEvent
from schemas.plan import Plan, PlanProposal, VersionWeight
from schemas.serving import ServingPolicy
from streams.canonical import from_json, to_json
from streams.memory_view import Incident
from tests.support.control import HERE
from tests.unit.agents.test_rollback import CAUSE, World, alert, validation

SHARES = (VersionWeight("v1.0.0", 80), VersionWeight("v2.0.0", 20))


def world(*, planned: bool = True) -> World:
    """v1 serves, and v2 is a canary of 20 percent."""
    found = World()
    found.command("SetCanary", "canary/digits", Canary("digits", "v2.0.0", 20))
    if planned:
        found.hear(PlanProposal("p1", Plan("digits", SHARES, 8, 1_000), -1, "so", (), 5))
    return found


def share(found: World) -> int:
    body: Canary = found.body("canary/digits", Canary)
    return body.weight_percent


def open_ones(found: World) -> list[str]:
    return [key for key in found.state.values if key.startswith("incident/canary/")]


def test_a_breach_takes_it_back_in_the_decision_that_notes_its_incident() -> None:
    found = world()
    found.burn("v2.0.0")
    assert found.kinds == ["IncidentRaised", "CanaryTakenBack", "IncidentRaised"]
    assert (found.active, share(found)) == ("v1.0.0", 0)
    event = next(each.record for each in found.last if getattr(each.record, "kind", "") == "CanaryTakenBack")
    sentence = (
        "The canary digits v2.0.0, with 20 percent of the rows, is taken back, and v1.0.0 serves on. "
        "30 of 100 rows of digits v2.0.0 ended badly."
    )
    assert (event.agent, event.reason, event.causes) == ("orchestrator", sentence, (CAUSE, HERE))
    (key,) = open_ones(found)
    incident = found.body(key, Incident)
    assert (incident.kind, incident.subject, incident.severity, incident.message) == (
        *("canary", "digits", "critical", sentence),
    )
    assert from_json(Canary, incident.evidence) == Canary("digits", "v2.0.0", 20)
    assert [(each.escalation_id, each.reason) for each in found.told] == [(incident.incident_id, sentence)]
    found.burn("v2.0.0", 2)  # nothing is left to be taken back
    assert (found.kinds, found.told) == (["IncidentRaised"], [])


def test_its_incident_ends_with_the_plan_that_gives_it_no_rows() -> None:
    found = world()
    found.burn("v2.0.0")
    alone = Plan("digits", (VersionWeight("v1.0.0", 100),), 8, 1_000)
    found.hear(PlanProposal("p2", alone, -1, "so", (), 5))
    assert (found.kinds, open_ones(found)) == (["PlanMadeEffective", "IncidentResolved"], [])


def test_one_that_got_no_rows_yet_leaves_no_open_incident() -> None:
    found = world(planned=False)
    found.burn("v2.0.0")
    assert found.kinds == ["IncidentRaised", "CanaryTakenBack", "IncidentRaised", "IncidentResolved"]
    assert open_ones(found) == []


@pytest.mark.parametrize("check", ["golden_set", "drift_confirmed", "integrity"])
def test_a_failed_check_of_it_takes_it_back(check: str) -> None:
    found = world()
    found.hear(replace(validation(check, False), version="v2.0.0"))
    assert found.kinds == ["CanaryTakenBack", "IncidentRaised"]


@pytest.mark.parametrize(
    "changes",
    [{"resolved": True}, {"severity": "warning"}, {"kind": "drift"}, {"version": ""}, {"version": "v3.0.0"}],
)
def test_what_does_not_blame_it_leaves_it(changes: dict[str, Any]) -> None:
    found = world()
    found.hear(replace(alert("v2.0.0"), **changes))
    assert "CanaryTakenBack" not in found.kinds
    assert share(found) == 20


def test_where_it_is_left_to_people_they_are_told() -> None:
    found = world()
    found.command("SetServingPolicy", "serving/digits", ServingPolicy("digits", auto_rollback=False))
    found.burn("v2.0.0")
    assert (found.kinds, share(found)) == (["IncidentRaised"], 20)
    assert [each.reason for each in found.told] == [
        "The canary digits v2.0.0, with 20 percent of the rows, is not taken back by itself: its serving policy leaves "
        "that to people. 30 of 100 rows of digits v2.0.0 ended badly."
    ]


def test_a_roll_back_of_the_active_version_ends_the_trial() -> None:
    found = World()
    found.mark("v1.0.0")
    found.activate("v2.0.0")
    found.command("SetCanary", "canary/digits", Canary("digits", "v3.0.0", 20))
    found.burn("v2.0.0")
    assert found.kinds[:3] == ["IncidentRaised", "VersionRolledBack", "CanaryTakenBack"]
    assert (found.active, share(found)) == ("v1.0.0", 0)


def test_a_canary_is_never_known_as_good() -> None:
    found = world()
    found.mark("v2.0.0")
    assert [each.record.key for each in found.last if isinstance(each.record, MemoryEvent)] == [
        f"rejections/c{found.number}"
    ]
    assert to_json(Canary("digits", "v2.0.0", 20)) == found.state.values["canary/digits"].body
