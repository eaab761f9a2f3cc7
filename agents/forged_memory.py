"""Records of ``memory.events`` that its writer did not write, as the Monitor meets them: one alert until none comes.

Memory is a chain: every event has the next sequence and the hash of the one before as it is stored. Whatever else
stands on the topic is refused by every reader (``streams.memory_fold.void_reason``), and is told of here. A forger who
knows the chain's end and keeps to it is taken for the writer, by readers too; then it is the writer's own next event
that does not follow any more, so the alert comes all the same, with that event as its evidence. Which of the two was
forged, signed heads of the audit log say. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.alerting import critical
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from streams.agent import NO_EFFECTS, Effects, Event, Publish, Unreadable
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead

KIND = "forged_memory"
TOPIC = "memory.events"


@dataclass(frozen=True, slots=True)
class Forged:
    """Refused records so far: how many, the last one's time, and the first one: what it says and why it is refused.

    ``sequence``, ``agent`` and ``key`` are those that the record claims; -1 and empty where it cannot be read.
    """

    alert_id: str
    num_records: int
    last_us: int
    cause: RecordCoordinate
    reason: str
    sequence: int = -1
    agent: str = ""
    key: str = ""


def note(met: Forged | None, head: MemoryHead, event: Event) -> tuple[Forged | None, Effects]:
    """Judge a record of ``memory.events`` by the end of the chain before it; the first refused one is an alert."""
    record = event.record
    if isinstance(record, MemoryEvent):
        reason = void_reason(head, record)
        claimed = (record.sequence, record.agent, record.key)
    elif isinstance(record, Unreadable):
        reason, claimed = f"it cannot be read ({record.code})", (-1, "", "")
    else:
        return met, NO_EFFECTS
    if reason is None:
        return met, NO_EFFECTS
    if met is not None:
        return _once_more(met, event.now_us), NO_EFFECTS
    alert_id = f"{KIND}/{event.coordinate.offset}"
    forged = Forged(alert_id, 1, event.now_us, event.coordinate, reason, *claimed)
    return forged, (
        _alert(forged, f"Somebody else writes to memory; every reader refuses it: {reason}.", event.now_us),
    )


def gone(met: Forged | None, now_us: int, quiet_us: int) -> tuple[Forged | None, Effects]:
    """Resolve the alert when no such record came for ``quiet_us``."""
    if met is None or now_us - met.last_us < quiet_us:
        return met, NO_EFFECTS
    message = f"No more records of others came to memory; there were {met.num_records}."
    return None, (_alert(met, message, now_us, resolved=True),)


def _once_more(met: Forged, now_us: int) -> Forged:
    first = (met.cause, met.reason, met.sequence, met.agent, met.key)
    return Forged(met.alert_id, met.num_records + 1, now_us, *first)


def _alert(met: Forged, message: str, now_us: int, *, resolved: bool = False) -> Publish:
    return critical(KIND, TOPIC, message, met, now_us, resolved=resolved)
