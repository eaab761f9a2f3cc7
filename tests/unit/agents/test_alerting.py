"""A case's alert, raised and resolved."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.alerting import critical
from schemas.coordinate import RecordCoordinate
from schemas.telemetry import Alert
from streams.agent import Publish
from streams.canonical import to_json

CAUSE = RecordCoordinate("control.heartbeats", 0, 7)


@dataclass(frozen=True, slots=True)
class Met:
    """What a rule holds."""

    alert_id: str
    cause: RecordCoordinate
    num: int


MET = Met("odd/subject/5", CAUSE, 3)


def test_an_alert_is_raised_with_its_case_as_evidence() -> None:
    raised = Alert("odd/subject/5", "odd", "subject", "critical", "It is odd.", to_json(MET), False, 9, (CAUSE,))
    told = critical("odd", "subject", "It is odd.", MET, 9, resolved=False)
    assert told == Publish("control.alerts", b"subject", raised)


def test_it_is_resolved_by_the_same_id() -> None:
    told = critical("odd", "subject", "It is over.", replace(MET, num=4), 12, resolved=True, evidence='{"n":1}')
    assert isinstance(told.record, Alert)
    assert (told.record.alert_id, told.record.resolved, told.record.evidence) == (MET.alert_id, True, '{"n":1}')
