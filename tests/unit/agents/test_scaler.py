"""The Scaler: holds, says why, and never takes silence for zero."""

from __future__ import annotations

from agents.scaler import Load, Params, State, decide
from schemas.scaling import ScaleAction
from schemas.telemetry import Heartbeat, RouterLoad
from streams.agent import Publish
from tests.support.control import SECOND, at, tick

PARAMS = Params()


def heartbeat(instance: int, sent_us: int, role: str = "executor") -> Heartbeat:
    return Heartbeat(role, instance, 100 + instance, 1, sent_us, 0)


def action(now_us: int, current: int, target: int, reason: str) -> tuple[Publish, ...]:
    record = ScaleAction(f"executors/{now_us}", "executors", "hold", current, target, reason, now_us)
    return (Publish("control.scale-actions", b"executors", record),)


def test_nothing_is_said_before_an_executor_was_heard() -> None:
    assert decide(State(), tick(100 * SECOND), PARAMS) == (State(), ())
    assert decide(State(), at(heartbeat(0, 5, "router")), PARAMS) == (State(), ())


def test_hold_on_change_and_each_minute() -> None:
    state, _ = decide(State(), at(heartbeat(0, SECOND), SECOND), PARAMS)
    state, _ = decide(state, at(heartbeat(1, SECOND), SECOND), PARAMS)
    state, _ = decide(state, at(RouterLoad("digits", 99.6, 0, SECOND)), PARAMS)
    assert state.load == {"digits": Load(99.6, 0, SECOND)}
    state, effects = decide(state, tick(2 * SECOND), PARAMS)
    reason = "2 executors are heard, 100 rows/s; this version holds and does not scale."
    assert effects == action(2 * SECOND, 2, 2, reason)
    assert decide(state, tick(3 * SECOND), PARAMS) == (state, ())
    for second in (30, 61):
        for instance in (0, 1):
            state, _ = decide(state, at(heartbeat(instance, second * SECOND), second * SECOND), PARAMS)
    _, effects = decide(state, tick(62 * SECOND), PARAMS)
    reason = "2 executors are heard, no load report; this version holds and does not scale."
    assert effects == action(62 * SECOND, 2, 2, reason)


def test_silence_is_not_zero() -> None:
    state, _ = decide(State(), at(heartbeat(0, SECOND), SECOND), PARAMS)
    state, _ = decide(state, tick(2 * SECOND), PARAMS)
    state, effects = decide(state, tick(7 * SECOND), PARAMS)
    assert effects == action(7 * SECOND, 0, 1, "No executor is heard; without data the number of replicas stays.")
    assert decide(state, tick(8 * SECOND), PARAMS) == (state, ())


def test_an_old_heartbeat_read_late_is_no_life() -> None:
    state, _ = decide(State(), at(heartbeat(0, SECOND), 100 * SECOND), PARAMS)
    assert decide(state, tick(100 * SECOND), PARAMS) == (state, ())
