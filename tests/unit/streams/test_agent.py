"""The declaration of an agent is data."""

from __future__ import annotations

import dataclasses

import pytest

from streams.agent import NO_EFFECTS, TICK, AgentSpec, Effects, Event, Publish, Tick


def count(state: int, event: Event, params: int) -> tuple[int, Effects]:
    """Count ticks by ``params``."""
    if isinstance(event.record, Tick):
        return state + params, (Publish("control.load", b"k", state),)
    return state, NO_EFFECTS


def test_a_declared_agent_can_be_run_by_hand() -> None:
    spec = AgentSpec("counter", ("control.load",), ("control.load",), lambda params: 0, count, params=2)
    state = spec.initial(spec.params)
    state, effects = spec.decide(state, Event(Tick(), TICK, 5), spec.params)
    assert (state, effects) == (2, (Publish("control.load", b"k", 0),))
    state, effects = spec.decide(state, Event("other", TICK, 6), spec.params)
    assert (state, effects) == (2, NO_EFFECTS)


def test_defaults_are_the_careful_ones() -> None:
    spec = AgentSpec("a", (), (), lambda params: None, lambda state, event, params: (state, ()))
    assert (spec.watches, spec.tick_ms, spec.journaled, spec.state_per) == ((), 0, False, "agent")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "b"  # type: ignore[misc]
