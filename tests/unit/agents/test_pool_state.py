"""Each pool has a part of the Scaler's state; the fast one's stands where it always stood."""

from __future__ import annotations

from dataclasses import replace

from agents.pool_state import PoolState, Standing, confirmed, pool_in, with_pool
from agents.replica_need import Pressure
from agents.scaler import State
from schemas.scaling import ScaleConfirmation, ScalingPolicy
from streams.canonical import from_json, to_json

FAST = PoolState(ScalingPolicy("executors", 1, 3), 2, Standing("executors/5", 3, 5), Pressure(4, 3), None, 1, 2, "x", 3)
SLOW = replace(FAST, policy=ScalingPolicy("executors-slow", 1, 2), replicas=1)


def test_pools_are_kept_apart() -> None:
    state = with_pool(with_pool(State(), "executors", FAST), "executors-slow", SLOW)
    assert (pool_in(state, "executors"), pool_in(state, "executors-slow")) == (FAST, SLOW)
    assert (state.policy, state.replicas, state.published_us) == (FAST.policy, 2, 3)
    assert from_json(State, to_json(state)) == state
    for name in ("executors", "executors-slow"):
        assert with_pool(state, name, replace(pool_in(state, name))) is state


def test_a_snapshot_of_a_release_without_slow_pools_is_read() -> None:
    state = with_pool(State(), "executors", FAST)
    old = to_json(state).replace(f',"slow":{to_json(PoolState())}', "")
    assert '"slow"' not in old
    assert from_json(State, old) == state


def test_only_the_answer_to_the_action_that_stands_counts() -> None:
    other = ScaleConfirmation("executors/4", "executors", 3, "done", 9)
    assert confirmed(FAST, other, 10, 30) is FAST
    done = confirmed(FAST, replace(other, action_id="executors/5"), 10, 30)
    assert (done.standing, done.replicas, done.ended_us, done.rest_until_us, done.said) == (None, 3, 10, 0, "")
    failed = confirmed(FAST, replace(other, action_id="executors/5", outcome="failed", replicas=2), 10, 30)
    assert (failed.replicas, failed.rest_until_us) == (2, 40)
