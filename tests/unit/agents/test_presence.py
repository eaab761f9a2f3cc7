"""Signs of life: what a silent Orchestrator means is said, and people are told when memory is silent for long."""

from __future__ import annotations

from agents.presence import MEMORY_SILENT, Processes, heard, judge, resolve_heard, silent_for_us
from schemas.review import Escalation
from schemas.telemetry import Alert, Heartbeat
from streams.agent import Effects
from tests.support.control import HERE, SECOND

SILENT_US = 5 * SECOND
FORGET_US = 60 * SECOND
BOUND_US = 600 * SECOND


def beat(role: str, second: int, instance: int = 0, pid: int = 1) -> Heartbeat:
    return Heartbeat(role, instance, pid, 1, second * SECOND, 41)


def told(*beats: Heartbeat) -> Processes:
    processes: Processes = {}
    for each in beats:
        processes = heard(processes, each, each.sent_us, HERE)
    return processes


def watch(processes: Processes, first_s: int, last_s: int) -> tuple[Processes, Effects]:
    effects: Effects = ()
    for second in range(first_s, last_s + 1):
        processes, made = judge(processes, 0, second * SECOND, SILENT_US, FORGET_US, BOUND_US)
        effects += made
    return processes, effects


def test_a_silent_orchestrator_is_said_to_stop_changes_and_is_escalated_at_the_bound() -> None:
    processes, effects = watch(told(beat("orchestrator", 100)), 101, 1_000)
    alert, escalation = (effect.record for effect in effects)
    assert isinstance(alert, Alert)
    assert (alert.kind, alert.subject, alert.message) == ("process_silent", "orchestrator-0", MEMORY_SILENT)
    assert alert.time_us == 105 * SECOND
    assert isinstance(escalation, Escalation)
    assert (effects[1].topic, escalation.time_us) == ("control.escalations", 700 * SECOND)
    assert "no writer for 600 s" in escalation.reason
    assert "sequence 41" in escalation.reason
    processes = heard(processes, beat("orchestrator", 1_001, pid=2), 1_001 * SECOND, HERE)
    processes, (end,) = resolve_heard(processes, "orchestrator-0", 1_001 * SECOND, SILENT_US)
    assert (end.record.alert_id, end.record.resolved) == (alert.alert_id, True)
    status = processes["orchestrator-0"]
    assert (status.alert_id, status.is_escalated, status.restarts) == ("", False, 1)


def test_one_of_two_orchestrators_is_a_process_like_any_other() -> None:
    processes = told(beat("orchestrator", 100), beat("orchestrator", 100, 1))
    messages = []
    for second in range(101, 800):
        processes = heard(processes, beat("orchestrator", second, 1), second * SECOND, HERE)
        processes, made = judge(processes, 0, second * SECOND, SILENT_US, FORGET_US, BOUND_US)
        messages += [effect.record.message for effect in made]
    assert messages == ["The process sends no heartbeat.", "The process is gone and forgotten."]
    assert sorted(processes) == ["orchestrator-1"]


def test_where_nothing_is_due_the_same_object_comes_back() -> None:
    processes = told(beat("edge", 100))
    assert judge(processes, 0, 101 * SECOND, SILENT_US, FORGET_US, BOUND_US) == (processes, ())
    assert judge(processes, 0, 101 * SECOND, SILENT_US, FORGET_US, BOUND_US)[0] is processes
    assert heard(processes, beat("edge", 99), 101 * SECOND, HERE) is processes
    assert silent_for_us(processes["edge-0"], 103 * SECOND, 104 * SECOND) == SECOND
