"""What has checks run: alerts, another active version, and a review of one, each with the checks that answer it. Pure.

See ``agents.validations`` for the rules; here stands which cause asks for what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agents.model_facts import Models
from schemas.canary import Canary
from schemas.check import DRIFT, GOLDEN_SET, INTEGRITY, LATENCY, SERVING, STATISTICS
from schemas.coordinate import RecordCoordinate
from schemas.environment import OpenReview
from schemas.known_good import Rollback
from schemas.memory import MemoryEvent
from schemas.telemetry import Alert
from streams.agent import Event
from streams.canonical import from_json
from streams.memory_view import ActiveVersion

ROLLBACK: Final = "rollback"
STARTED: Final = "RollbackStarted"
REVIEW: Final = "review"
CANARY: Final = "canary"
DEPLOYING: Final = ("ActivateVersion", "SetCanary")
"""Commands that name a model and the version that is to serve."""
OF_ROLLBACK: Final = (SERVING, LATENCY, GOLDEN_SET, INTEGRITY)
OF_ACTIVATION: Final = (GOLDEN_SET, INTEGRITY)
OF_ALERT: Final[Mapping[str, tuple[str, ...]]] = {
    "drift": (DRIFT, STATISTICS, GOLDEN_SET),
    "data_quality": (STATISTICS,),
    "slo_burn": (STATISTICS, GOLDEN_SET, INTEGRITY),
}


@dataclass(frozen=True, slots=True)
class Due:
    """Checks to ask for, some time after ``since_us``; ``version`` "" is the one that is active then.

    ``kind``: of the cause. ``alert_id``: the alert or review that they answer; "" for none, or not known yet.
    """

    model: str
    version: str
    kind: str
    checks: tuple[str, ...]
    reason: str
    since_us: int
    causes: tuple[RecordCoordinate, ...]
    alert_id: str = ""
    attempt: int = 1


def due_of_alert(alert: Alert, event: Event) -> Due:
    """What an alert of a kind of ``OF_ALERT`` has checked: the version to blame, else the active one."""
    checks, model = OF_ALERT[alert.kind], alert.model or alert.subject
    causes = (event.coordinate,)
    return Due(model, alert.version, alert.kind, checks, alert.message, event.now_us, causes, alert.alert_id)


def due_of_move(models: Models, change: MemoryEvent, event: Event) -> tuple[str, Due] | None:
    """What another active version has checked, and the id of that cause: a roll-back what it promised.

    So has a roll-back (``RollbackStarted``) that let the version stay and put back how it is served.
    """
    if change.kind == STARTED:
        rollback = from_json(Rollback, change.body or "", newer=True)
        if rollback.from_version != rollback.to_version:
            return None  # its version's move was looked at
        model = rollback.model
    else:
        model = from_json(ActiveVersion, change.body or "", newer=True).model
    is_rollback = change.kind in ("VersionRolledBack", STARTED)
    if not is_rollback and models[model].golden is None:
        return None
    kind, what = (ROLLBACK, "was rolled back") if is_rollback else ("activation", "has another active version")
    checks = OF_ROLLBACK if is_rollback else OF_ACTIVATION
    due = Due(model, "", kind, checks, f"{model} {what}", event.now_us, (event.coordinate,))
    return f"{kind}/{model}/{change.sequence}", due


def due_of_canary(models: Models, change: MemoryEvent, event: Event) -> tuple[str, Due] | None:
    """What a canary has checked when its share is set, and the id of that cause."""
    canary = from_json(Canary, change.body or "", newer=True)
    if canary.model not in models or models[canary.model].golden is None:
        return None
    reason = f"{canary.model} {canary.version} is a canary of {canary.weight_percent} percent"
    due = Due(canary.model, canary.version, CANARY, OF_ACTIVATION, reason, event.now_us, (event.coordinate,))
    return f"{CANARY}/{canary.model}/{change.sequence}", due


def due_of_review(models: Models, change: MemoryEvent, event: Event) -> tuple[str, Due] | None:
    """What a version has checked whose activation or share waits for people: their evidence, and the rehearsal."""
    review = from_json(OpenReview, change.body or "", newer=True)
    if review.command.kind not in DEPLOYING or review.request.policy == "development":
        return None
    wanted = from_json(ActiveVersion, review.command.body, newer=True)
    if wanted.model not in models:
        return None
    checks = OF_ACTIVATION if models[wanted.model].golden is not None else (INTEGRITY,)
    reason, causes = f"{wanted.model} {wanted.version} waits for an approval", (event.coordinate,)
    review_id = review.request.review_id
    return change.key, Due(
        wanted.model, wanted.version, REVIEW, checks, reason, event.now_us, causes, f"{REVIEW}/{review_id}"
    )
