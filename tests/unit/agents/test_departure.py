"""Who was ended by scaling raises no alert, whichever of the two topics is read first, and may come back."""

from __future__ import annotations

from agents.departure import depart, is_late
from agents.monitor import Params, State, decide
from agents.presence import heard
from schemas.scaling import ScaleConfirmation
from schemas.telemetry import Alert, Heartbeat
from streams.agent import Effects
from tests.support.control import HERE, SECOND, at, tick

PARAMS = Params()


def beat(second: int, instance: int = 2) -> Heartbeat:
    return Heartbeat("executor", instance, 7, 1, second * SECOND, 41)


def ended(second: int, *names: str) -> ScaleConfirmation:
    return ScaleConfirmation("executors/1", "executors", 1, "done", second * SECOND, "", names)


def run(state: State, first_s: int, last_s: int) -> tuple[State, Effects]:
    effects: Effects = ()
    for second in range(first_s, last_s + 1):
        state, _ = decide(state, at(beat(second, 0), second * SECOND), PARAMS)
        state, made = decide(state, tick(second * SECOND), PARAMS)
        effects += made
    return state, effects


def test_an_executor_that_scaling_ended_is_not_silent_also_when_its_last_sign_is_read_late() -> None:
    state, _ = run(State(), 90, 100)
    state, _ = decide(state, at(beat(100), 100 * SECOND), PARAMS)
    state, effects = decide(state, at(ended(101, "executor-2"), 101 * SECOND), PARAMS)
    assert effects == ()
    state, _ = decide(state, at(beat(100), 101 * SECOND), PARAMS)
    assert sorted(state.processes) == ["executor-0"]
    state, effects = run(state, 102, 140)
    assert effects == ()


def test_one_that_was_killed_is_silent_all_the_same_and_its_end_resolves_the_alert() -> None:
    state, _ = run(State(), 90, 100)
    state, _ = decide(state, at(beat(100), 100 * SECOND), PARAMS)
    state, effects = run(state, 101, 110)
    (raised,) = (effect.record for effect in effects)
    assert isinstance(raised, Alert)
    assert (raised.kind, raised.subject, raised.resolved) == ("process_silent", "executor-2", False)
    state, effects = decide(state, at(ended(111, "executor-2"), 111 * SECOND), PARAMS)
    (resolved,) = (effect.record for effect in effects)
    assert (resolved.alert_id, resolved.resolved) == (raised.alert_id, True)
    assert resolved.message == "The process was ended by scaling."


def test_one_that_was_started_again_counts_and_an_older_confirmation_changes_nothing() -> None:
    processes, departed, _ = depart({}, {}, ended(100, "executor-2"), 100 * SECOND)
    assert is_late(departed, "executor-2", beat(100))
    assert not is_late(departed, "executor-2", beat(101))
    assert not is_late(departed, "executor-1", beat(1, 1))
    processes = heard(processes, beat(105), 105 * SECOND, HERE)
    assert depart(processes, departed, ended(103, "executor-2"), 106 * SECOND) == (processes, departed, ())
