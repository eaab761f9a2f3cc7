"""Critical alerts about one subject, as several rules of the Monitor say them: one id until it is resolved. Pure."""

from __future__ import annotations

from typing import Protocol

from schemas.coordinate import RecordCoordinate
from schemas.telemetry import Alert
from streams.agent import Publish
from streams.canonical import to_json


class Case(Protocol):
    """What a rule holds while its alert stands."""

    @property
    def alert_id(self) -> str:
        """The alert's id, the same when it is resolved."""

    @property
    def cause(self) -> RecordCoordinate:
        """The record that raised it."""


def critical(
    kind: str, subject: str, message: str, case: Case, now_us: int, *, resolved: bool, evidence: str = ""
) -> Publish:
    """The alert of a case, raised or resolved; ``evidence`` is JSON, the case itself where none is given."""
    alert = Alert(
        alert_id=case.alert_id,
        kind=kind,
        subject=subject,
        severity="critical",
        message=message,
        evidence=evidence or to_json(case),
        resolved=resolved,
        time_us=now_us,
        causes=(case.cause,),
    )
    return Publish("control.alerts", subject.encode(), alert)
