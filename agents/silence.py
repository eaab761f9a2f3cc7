"""Memory whose writer is silent, as people hear of it: a warning at half of the bound, a critical alert at it. Pure.

A part of the Monitor. Routers judge for themselves what they know of memory (``agents.freshness``); this is the same
bound, judged by the heartbeats of the Orchestrators. Both alerts are resolved when one of them is heard again. That one
process is silent is told at once and by itself (``agents.presence``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from agents.presence import ORCHESTRATOR, Processes
from schemas.coordinate import RecordCoordinate
from schemas.telemetry import Alert
from streams.agent import Effects, Publish
from streams.canonical import to_json

KIND: Final = "memory_silent"
SUBJECT: Final = "memory"
WARNING: Final = "warning"
CRITICAL: Final = "critical"

Severity = Literal["warning", "critical"]


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence that people were told of: when a writer of memory was heard last, and by which alerts, in turn."""

    heard_us: int
    cause: RecordCoordinate
    told: tuple[Severity, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why memory is called silent: microseconds, and what processes knew of it."""

    heard_us: int
    silent_us: int
    bound_us: int
    memory_sequence: int


def judge(
    told: Silence | None, processes: Processes, listening_us: int, now_us: int, bound_us: int
) -> tuple[Silence | None, Effects]:
    """Tell of a silence and of its end; where nothing is due, the same object comes back.

    ``listening_us``: since when the Monitor itself listens; before, nobody was silent.
    """
    writers = [each for name, each in processes.items() if name.startswith(ORCHESTRATOR)]
    if not writers:
        return told, ()
    last = max(writers, key=lambda each: (each.heard_us, each.name))
    silent_us = now_us - max(last.heard_us, listening_us)
    due: tuple[Severity, ...] = ()
    if 2 * silent_us >= bound_us:
        due = (WARNING,) if silent_us < bound_us else (WARNING, CRITICAL)
    if told is not None and last.heard_us > told.heard_us and not due:
        return None, _alerts(told, told.told, now_us, _evidence(last.heard_us, 0, bound_us, processes), resolved=True)
    known = told or Silence(last.heard_us, last.cause)
    fresh = tuple(each for each in due if each not in known.told)
    if not fresh:
        return told, ()
    evidence = _evidence(known.heard_us, silent_us, bound_us, processes)
    return replace(known, told=(*known.told, *fresh)), _alerts(known, fresh, now_us, evidence, resolved=False)


def _evidence(heard_us: int, silent_us: int, bound_us: int, processes: Processes) -> Evidence:
    sequence = max(each.memory_sequence for each in processes.values())
    return Evidence(heard_us, silent_us, bound_us, sequence)


def _alerts(
    silence: Silence, severities: Iterable[Severity], now_us: int, evidence: Evidence, *, resolved: bool
) -> Effects:
    return tuple(
        Publish(
            "control.alerts",
            SUBJECT.encode(),
            Alert(
                alert_id=f"{KIND}/{severity}/{silence.heard_us}",
                kind=KIND,
                subject=SUBJECT,
                severity=severity,
                message="Memory is heard again." if resolved else _message(severity, evidence),
                evidence=to_json(evidence),
                resolved=resolved,
                time_us=now_us,
                causes=(silence.cause,),
            ),
        )
        for severity in severities
    )


def _message(severity: Severity, evidence: Evidence) -> str:
    silent_s, bound_s = evidence.silent_us // 1_000_000, evidence.bound_us // 1_000_000
    if severity == CRITICAL:
        return f"Nothing was heard of memory for {silent_s} s: Routers refuse every request until something is."
    return f"Nothing was heard of memory for {silent_s} s: after {bound_s} s Routers refuse every request."
