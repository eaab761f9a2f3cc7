"""The Scaler: holds without a policy or without data, scales within one, one action at a time."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.load_picture import PictureParams
from agents.pool_look import Params
from agents.scaler import SCALER, State, scaler
from infra.policy_file import PolicyFileError, with_policy
from schemas.journal import JournalEntry
from schemas.memory import MemoryEvent
from schemas.scaling import ScaleConfirmation, ScalingPolicy
from schemas.telemetry import Heartbeat, RouterLoad
from streams.canonical import from_json, to_json
from streams.codec import Codec, SchemaIds
from streams.control.journal import SnapshotBody, restore
from tests.support.scaler_bench import ITEMS_PER_S, Bench, Pool, S, listening

POLICY = ScalingPolicy("executors", 1, 4, upscale_delay_s=2, downscale_delay_s=10, cooldown_s=3)


def bench(policy: ScalingPolicy | None = POLICY, **more: Any) -> Bench:
    """One that has listened for long enough, and has nothing to do."""
    made = listening(policy, **more)
    assert made.steps(2) == []
    return made


def test_a_snapshot_of_the_first_release_is_taken_up() -> None:
    state = (
        '{"heard_us":{"1":17},"load":{"digits":{"num_held":3,"rows_per_s":1234.5,"sent_us":17}},"published_us":17,'
        '"replicas":1,"target":1}'
    )
    body = to_json(SnapshotBody(state, {"control.load/0": 4}, {})).encode()
    entry = JournalEntry("scaler", 1_001, 17, "snapshot", "", -1, -1, b"", body, "", (), b"")
    restored, _ = restore(SCALER, Codec(SchemaIds.local()), [entry])
    assert restored.state == State(replicas=1, published_us=17)
    assert (restored.sequence, restored.cursors) == (1_001, {"control.load/0": 4})


def test_nothing_is_said_before_an_executor_was_heard() -> None:
    made = Bench()
    assert made.second(20, hears=False) == []


def test_without_a_policy_it_holds_and_says_how_to_set_one() -> None:
    made = bench(None, executors=2, rate=99.6)
    first = made.said[0]
    assert (first.decision, first.current_replicas, first.target_replicas) == ("hold", 2, 2)
    assert first.reason == "2 executors are heard; no policy says how to scale (`isos scaling set`)."
    made.rate = 1e9
    assert [each.decision for each in made.second(125)] == ["hold", "hold"]  # each minute


def test_silence_is_not_zero() -> None:
    made = bench(None)
    held = made.second(10, hears=False)
    assert [(each.current_replicas, each.target_replicas, each.reason) for each in held] == [
        (0, 0, "No executor is heard.")
    ]


def test_more_load_for_long_enough_is_one_step_up_with_its_reason() -> None:
    made = bench(rate=300.0)
    made.rate = 1_500.0
    assert made.steps(2) == []
    assert made.steps(1) == [(1, 3)]
    action = made.said[-1]
    assert (action.action_id, action.pool, action.decision) == (f"executors/{109 * S}", "executors", "scale_up")
    assert action.reason == "1500 items/s keep 1.50 executors busy; each is to be busy for 60 %: 3 needed."
    assert made.steps(30) == []  # it stands until it is confirmed
    made.confirm()
    assert made.steps(30) == []


def test_less_load_for_long_enough_is_one_step_down() -> None:
    made = bench(rate=1_500.0, executors=3)
    made.rate = 300.0
    assert made.steps(10) == []
    assert made.steps(1) == [(3, 1)]
    assert made.said[-1].decision == "scale_down"


def test_what_waits_asks_for_more_until_it_is_drained() -> None:
    made = bench(rate=500.0, waiting=10_000)
    made.steps(3)
    assert made.said[-1].target_replicas == 4
    assert "10000 items wait (10.00 s)" in made.said[-1].reason
    assert made.said[-1].reason.endswith(": 5 needed, at most 4 are allowed.")


def test_the_budget_is_a_ceiling() -> None:
    made = bench(replace(POLICY, cost_per_replica_milli=400, budget_milli=1_000), rate=300.0)
    made.rate = 9_999.0
    assert made.steps(5) == [(1, 2)]
    assert made.said[-1].reason.endswith(": 17 needed, the budget pays for 2.")


def test_there_are_never_more_than_lanes() -> None:
    made = bench(replace(POLICY, min_replicas=3), rate=300.0, params=Params(most_replicas=2), executors=2)
    made.rate = 9_999.0
    assert made.steps(20) == []
    assert made.said[-1].reason.endswith(": 17 needed, at most 2 are allowed.")


def test_a_backtest_shows_other_replica_counts_under_another_policy() -> None:
    """A policy file takes the place of what stands in memory; the inputs are those of the other run."""
    file = {"policy": {"pool": "executors", "max_replicas": 4, "target_utilization_percent": 30}}
    other = bench(rate=200.0, params=with_policy(Params(), file))
    made = bench(rate=200.0)
    made.rate = other.rate = 900.0
    assert (made.steps(3), other.steps(3)) == ([(1, 2)], [(1, 3)])
    assert "each is to be busy for 30 %" in other.said[-1].reason
    with pytest.raises(PolicyFileError, match="policy cannot be"):
        with_policy(Params(), {"policy": {"pool": "executors", "most": 4}})


def test_a_first_policy_is_not_acted_on_before_routers_had_time_to_tell() -> None:
    made = bench(None, rate=3_000.0, executors=1)
    made.second(20)
    made.note("scaling/executors", POLICY)
    assert made.steps(7) == []
    assert made.steps(1) == [(1, 4)]


def test_a_new_policy_moves_what_stands_outside_it() -> None:
    made = bench(rate=10.0)
    made.note("scaling/executors", replace(POLICY, min_replicas=2))
    assert made.steps(4) == [(1, 2)]


def test_an_action_without_an_answer_stands_for_a_minute_and_then_rests() -> None:
    made = bench(rate=1_500.0, executors=1)
    assert made.said[-1].decision == "hold"
    made.rate = 1_500.0
    (first,) = made.steps(10) or [(0, 0)]
    assert first == (1, 3)
    assert made.steps(56) == []
    assert made.steps(36) == [(1, 3)]


def test_a_failed_action_rests_before_the_next() -> None:
    made = bench(rate=300.0)
    made.rate = 1_500.0
    assert made.steps(3) == [(1, 3)]
    made.confirm("failed", 1)
    assert made.steps(30) == []
    assert made.steps(3) == [(1, 3)]


def test_a_confirmation_of_another_action_or_pool_is_none() -> None:
    made = bench(rate=300.0)
    made.rate = 1_500.0
    made.steps(3)
    standing = made.state.standing
    for action_id, pool in (("executors/1", "executors"), (made.said[-1].action_id, "slow-executors")):
        made.give(ScaleConfirmation(action_id, pool, 3, "done", 0))
    assert made.state.standing == standing


@pytest.mark.parametrize(("routers", "executors"), [(0, 3), (1, 0), (0, 0)])
def test_without_data_it_holds(routers: int, executors: int) -> None:
    made = bench(rate=1_500.0, executors=3)
    made.routers, made.executors, made.rate = routers, executors, 0.0
    assert made.steps(200) == []
    who = "No executor is heard" if routers else "No Router is heard"
    assert made.said[-1].reason == f"{who}; without data the number of replicas stays."
    assert made.said[-1].target_replicas == 3


def test_a_broker_that_is_away_changes_nothing() -> None:
    """Neither ticks nor records for twenty seconds; then all of them again."""
    made = bench(rate=1_500.0, executors=3)
    made.now_s += 20
    made.rate, made.waiting = 9_000.0, 20_000  # what was held up comes all at once
    assert made.steps(10) == []
    assert made.said[-1].reason == "It listens again only now; without data the number of replicas stays."
    made.rate, made.waiting = 1_500.0, 0
    assert made.steps(60) == []


def test_a_short_pause_of_its_own_costs_less() -> None:
    made = bench(rate=300.0)
    made.now_s += 5
    made.rate = 1_500.0
    assert made.steps(7) == []
    assert made.steps(1) == [(1, 3)]


def test_its_own_pause_breaks_the_wait_for_fewer() -> None:
    made = bench(rate=1_500.0, executors=3)
    made.rate = 10.0
    made.steps(8)
    made.now_s += 20
    assert made.steps(25) == []
    assert made.steps(2) == [(3, 1)]


def test_a_load_that_nobody_took_back_does_not_lower() -> None:
    made = bench(rate=1_500.0, executors=3, routers=2)
    made.routers, made.rate = 1, 10.0
    assert made.steps(50) == []
    assert made.said[-1].reason.endswith("s old.")
    assert made.steps(30) == [(3, 1)]  # a minute later it is forgotten: others have the partitions of router-1


def test_to_zero_and_back_only_where_the_policy_says_so() -> None:
    made = bench(replace(POLICY, min_replicas=0, idle_s=20), rate=100.0)
    made.rate = 0.0
    assert made.steps(19) == []
    assert made.steps(2) == [(1, 0)]
    assert made.said[-1].reason == "No row came for 20 s."
    made.confirm()
    assert made.steps(50) == []
    made.rate = 5.0
    assert made.steps(1) == [(0, 1)]
    made.confirm()
    assert made.steps(30) == []
    stays = bench(replace(POLICY, idle_s=20), rate=0.0)
    assert stays.steps(100) == []


def test_below_the_policys_load_it_stays_at_the_least() -> None:
    made = bench(replace(POLICY, scale_above_rows_per_s=2_000), rate=1_900.0)
    assert made.steps(30) == []
    made.rate = 2_100.0
    assert made.steps(3) == [(1, 4)]


def test_a_rate_that_climbs_is_foreseen_where_the_policy_says_how_far() -> None:
    def first_step_at(policy: ScalingPolicy) -> int:
        made = bench(policy, rate=200.0)
        for second in range(200):
            made.rate = 200.0 + 5.0 * second
            if made.steps(1):
                return second
        return -1

    late, early = first_step_at(POLICY), first_step_at(replace(POLICY, forecast_s=30))
    assert 0 < early < late - 10


def test_a_rate_that_swings_slower_than_the_delays_is_followed_without_flapping() -> None:
    """Holds are said when the need changes, but steps only up while it rises and down while it falls."""
    made = bench(replace(POLICY, downscale_delay_s=5), rate=300.0)
    made.rate = 900.0
    assert made.steps(3) == [(1, 2)]
    made.confirm()
    for rate in (700.0, 650.0, 620.0, 1_000.0):  # above what one carries, within what two carry
        made.rate = rate
        assert made.steps(30) == []


def test_void_memory_events_and_bodies_are_ignored() -> None:
    made = bench()
    forged = replace(made.events[-1].event, prev_hash=b"x" * 32, sequence=len(made.events) + 1)
    before = made.state
    made.give(forged, b"h" * 32)
    assert made.state.head == before.head
    good = MemoryEvent(
        len(made.events) + 1, made.events[-1].value_hash, "c", "cli", "Noted", "scaling/executors", 1, "{}", "", (), 9
    )
    made.give(good, b"h" * 32)
    assert made.state.policy == POLICY


def test_what_tells_nothing_is_not_even_journaled() -> None:
    assert SCALER.ignores is not None
    assert SCALER.ignores(State(), Heartbeat("edge", 0, 1, 1, S, 0))
    assert not SCALER.ignores(State(), Heartbeat("executor", 9, 1, 1, S, 0))
    load, made = RouterLoad("digits", 5.0, 0, S), bench()
    assert SCALER.ignores(State(), load)
    assert not SCALER.ignores(made.state, load)
    one = scaler(Params(PictureParams(first_slow=1)))
    assert one.ignores is not None
    assert one.ignores(State(), Heartbeat("executor", 9, 1, 1, S, 0))


def test_a_run_is_the_same_from_any_snapshot() -> None:
    made = bench(rate=300.0)
    made.rate = 1_500.0
    made.second(2)
    twin = replace(made, state=from_json(State, to_json(made.state)), said=[], events=list(made.events))
    assert made.second(1) == twin.second(1) != []


# A pool with a queue behind the Scaler.

LOADED = replace(POLICY, max_replicas=12, downscale_delay_s=60, cooldown_s=10)


def test_ten_times_the_load_is_carried_again_within_half_a_minute() -> None:
    pool = Pool(bench(LOADED, rate=300.0))
    pool.run(120, lambda second: 300.0 if second < 20 else 3_000.0)
    carried = next(
        second for second, replicas, waiting in pool.history if second >= 20 and replicas >= 5 and not waiting
    )
    assert carried - 20 <= 30
    assert pool.num_steps <= 3


@pytest.mark.parametrize("period_s", [60, 180])
def test_a_sine_is_followed_with_few_steps(period_s: int) -> None:
    """Where the downscale delay is the period it stays; over the longer one it rises and falls once a period."""
    pool = Pool(bench(LOADED, rate=1_500.0, executors=3))
    pool.run(1_080, lambda second: 1_500.0 + 1_200.0 * math.sin(2 * math.pi * second / period_s))
    settled = [replicas for second, replicas, _ in pool.history if second > 200]
    moves = [after - before for before, after in itertools.pairwise(settled) if before != after]
    turns = sum(one * next_one < 0 for one, next_one in itertools.pairwise(moves))
    num_periods = 880 // period_s
    assert len(moves) <= (0 if period_s == 60 else 6 * num_periods)
    assert turns <= 2 * num_periods + 1  # up while it rises, down while it falls
    assert max(waiting for second, _, waiting in pool.history if second > 200) <= ITEMS_PER_S


def test_noise_around_a_boundary_is_no_reason_to_move() -> None:
    draw = random.Random(7)
    pool = Pool(bench(LOADED, rate=1_150.0, executors=2))
    pool.run(600, lambda _second: draw.uniform(1_100.0, 1_200.0))  # 1,200 is what two carry at 60 %
    assert pool.num_steps == 0


POLICIES = st.builds(
    ScalingPolicy,
    pool=st.just("executors"),
    min_replicas=st.integers(0, 2),
    max_replicas=st.integers(2, 9),
    upscale_delay_s=st.integers(0, 4),
    downscale_delay_s=st.integers(0, 20),
    cooldown_s=st.integers(0, 10),
    idle_s=st.integers(0, 20),
    forecast_s=st.sampled_from([0, 10]),
    lag_threshold=st.sampled_from([0, 100]),
)
SECONDS = st.lists(
    st.tuples(st.floats(0, 20_000), st.sampled_from(["all", "all", "no router", "no executor", "nothing", "pause"])),
    min_size=1,
    max_size=40,
)


@given(POLICIES, SECONDS, st.sampled_from(["done", "failed"]), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_it_stays_within_the_policy_and_lowers_only_by_what_it_knows(
    policy: ScalingPolicy, seconds: list[tuple[float, str]], outcome: str, start_s: int
) -> None:
    made, due_s = listening(policy, rate=500.0, executors=2), 0
    router_s = executor_s = made.now_s
    for rate, heard in seconds:
        live = made.executors
        made.rate, made.routers = rate, 0 if heard in ("no router", "nothing") else 1
        made.executors = 0 if heard in ("no executor", "nothing") else live
        made.now_s += 30 if heard == "pause" else 0
        router_s = made.now_s if made.routers else router_s
        executor_s = made.now_s if made.executors else executor_s
        at_s, before = made.now_s, made.state
        for action in made.second(1, hears=heard != "nothing"):
            least = 0 if policy.min_replicas == 0 else policy.floor
            assert action.decision == "hold" or least <= action.target_replicas <= policy.ceiling
            if action.target_replicas < action.current_replicas:
                assert max(at_s - router_s, at_s - executor_s) < 5
                assert at_s * S - made.state.listening_us >= 5 * S
            if action.decision != "hold":
                assert before.standing is None or at_s * S - before.standing.since_us >= 60 * S
                due_s = at_s + start_s
        made.executors = live
        if made.state.standing is not None and made.now_s >= due_s:
            made.confirm(outcome, None if outcome == "done" else live)


def test_a_backtest_s_policy_takes_the_place_of_the_one_in_memory() -> None:
    lazy = replace(POLICY, target_utilization_percent=95, max_replicas=2)
    made = bench(rate=300.0, params=Params(policy=lazy))
    made.rate = 1_500.0
    assert made.steps(5) == [(1, 2)]
    alone = bench(None, rate=300.0, params=Params(policy=POLICY))
    alone.rate = 1_500.0
    assert alone.steps(5) == [(1, 3)]
