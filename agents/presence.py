"""Which processes are heard, and an alert while one is silent. Pure; the Monitor's part for signs of life.

Rules: a process unheard for ``silent_us`` raises one ``process_silent`` alert with its evidence; heard again, the same
alert is resolved. Silence counts only while the Monitor itself listened. A process silent for ``forget_us`` is
forgotten and its alert resolved. Where the last Orchestrator is silent the alert says what that means: memory cannot
change, and Routers serve on by the plans that they know. It is never forgotten, and once it was silent for
``bound_us``, when Routers do so no longer, people are told by an escalation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agents.alerting import critical
from schemas.coordinate import RecordCoordinate
from schemas.review import Escalation
from schemas.telemetry import Heartbeat, LoadedModel
from streams.agent import NO_EFFECTS, Effects, Publish
from streams.canonical import to_json

ORCHESTRATOR: Final = "orchestrator-"
MEMORY_SILENT: Final = (
    "The Orchestrator sends no heartbeat: memory cannot change, and Routers serve on by the plans that they know."
)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process as heard last; ``alert_id`` while its silence is alerted; ``restarts`` since it was first heard.

    ``is_escalated``: people were told that memory has been silent for too long.
    """

    name: str
    pid: int
    started_us: int
    heard_us: int
    memory_sequence: int
    models: tuple[LoadedModel, ...]
    restarts: int
    cause: RecordCoordinate
    alert_id: str = ""
    is_escalated: bool = False


Processes = Mapping[str, ProcessStatus]
"""By ``role-instance``."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a process is called silent."""

    pid: int
    heard_us: int
    silent_us: int
    memory_sequence: int


def process_name(heartbeat: Heartbeat) -> str:
    """``role-instance``."""
    return f"{heartbeat.role}-{heartbeat.instance}"


def heard(processes: Processes, heartbeat: Heartbeat, now_us: int, cause: RecordCoordinate) -> Processes:
    """Note a sign of life; one that was sent earlier than the last one heard changes nothing."""
    name = process_name(heartbeat)
    known = processes.get(name)
    heard_us = min(heartbeat.sent_us, now_us)
    if known is not None and heard_us < known.heard_us:
        return processes
    is_restart = known is not None and (known.pid, known.started_us) != (heartbeat.pid, heartbeat.started_us)
    status = ProcessStatus(
        name=name,
        pid=heartbeat.pid,
        started_us=heartbeat.started_us,
        heard_us=heard_us,
        memory_sequence=heartbeat.memory_sequence,
        models=heartbeat.models,
        restarts=(0 if known is None else known.restarts) + is_restart,
        cause=cause,
        alert_id="" if known is None else known.alert_id,
        is_escalated=known is not None and known.is_escalated,
    )
    return {**processes, name: status}


def resolve_heard(processes: Processes, name: str, now_us: int, silent_us: int) -> tuple[Processes, Effects]:
    """End the alert of a process that is heard again."""
    status = processes[name]
    if not status.alert_id or now_us - status.heard_us >= silent_us:
        return processes, NO_EFFECTS
    after = {**processes, name: replace(status, alert_id="", is_escalated=False)}
    return after, (_alert(status, "The process is heard again.", now_us, 0, resolved=True),)


def silent_for_us(status: ProcessStatus, listening_us: int, now_us: int) -> int:
    """How long a process has been silent while the Monitor listened, which it does since ``listening_us``."""
    return now_us - max(status.heard_us, listening_us)


def judge(
    processes: Processes, listening_us: int, now_us: int, silent_us: int, forget_us: int, bound_us: int
) -> tuple[Processes, Effects]:
    """Alert who is silent, forget who is gone; where nothing is due, the same object comes back."""
    effects: list[Publish] = []
    after = dict(processes)
    for name, status in sorted(processes.items()):
        silence = silent_for_us(status, listening_us, now_us)
        is_memory = _is_memorys_only_writer(processes, name, now_us, silent_us)
        if now_us - status.heard_us >= forget_us and not is_memory:
            del after[name]
            if status.alert_id:
                effects.append(_alert(status, "The process is gone and forgotten.", now_us, silence, resolved=True))
        elif not status.alert_id and silence >= silent_us:
            after[name] = replace(status, alert_id=f"process_silent/{name}/{status.heard_us}")
            message = MEMORY_SILENT if is_memory else "The process sends no heartbeat."
            effects.append(_alert(after[name], message, now_us, silence, resolved=False))
        elif is_memory and status.alert_id and silence >= bound_us and not status.is_escalated:
            after[name] = replace(status, is_escalated=True)
            effects.append(_escalation(status, silence, now_us))
    return (after, tuple(effects)) if after != processes else (processes, NO_EFFECTS)


def forget(processes: Processes, names: Sequence[str], now_us: int) -> tuple[Processes, Effects]:
    """Forget processes that were ended on purpose, in this order, and end the alerts of their silence."""
    known = [processes[name] for name in names if name in processes]
    if not known:
        return processes, NO_EFFECTS
    after = {name: status for name, status in processes.items() if name not in names}
    silent = [status for status in known if status.alert_id]
    return after, tuple(_alert(each, "The process was ended by scaling.", now_us, 0, resolved=True) for each in silent)


def _is_memorys_only_writer(processes: Processes, name: str, now_us: int, silent_us: int) -> bool:
    """Whether it is an Orchestrator and no other one is heard."""
    if not name.startswith(ORCHESTRATOR):
        return False
    others = [each for each in processes.values() if each.name.startswith(ORCHESTRATOR) and each.name != name]
    return not any(now_us - each.heard_us < silent_us for each in others)


def _alert(status: ProcessStatus, message: str, now_us: int, silence: int, *, resolved: bool) -> Publish:
    evidence = to_json(Evidence(status.pid, status.heard_us, silence, status.memory_sequence))
    return critical("process_silent", status.name, message, status, now_us, resolved=resolved, evidence=evidence)


def _escalation(status: ProcessStatus, silence: int, now_us: int) -> Publish:
    reason = (
        f"Memory has had no writer for {silence // 1_000_000} s: Routers refuse to serve by the plans of sequence "
        f"{status.memory_sequence} any longer, and nothing can be changed, not even rolled back."
    )
    escalation = Escalation(f"{status.alert_id}/bound", "monitor", status.name, reason, now_us, (status.cause,))
    return Publish("control.escalations", status.name.encode(), escalation)
