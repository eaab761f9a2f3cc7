"""What the Orchestrator judges by."""

from __future__ import annotations

from agents.verdict import State, Value, keys_below
from streams.canonical import from_json, to_json


def test_keys_below_a_prefix_come_in_order() -> None:
    state = State(values={key: Value(1, "{}") for key in ("model/b/v1.0.0", "model/a/v2.0.0", "model/a/v1.0.0")})
    assert keys_below(state, "model/a/") == ("model/a/v1.0.0", "model/a/v2.0.0")
    assert keys_below(state, "plan/") == ()


def test_the_state_survives_a_snapshot() -> None:
    state = State(3, {"plan/a": Value(2, "{}")}, ("c1",), ("rejections/c1",))
    assert from_json(State, to_json(state)) == state
