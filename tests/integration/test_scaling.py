"""Executors come and go as scale actions say, under traffic: no request is lost, and none is answered twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import chaos_seed, traffic, two_of_each
from tests.support.scaling import act, actions, alerts, confirmed, executors, replicas, scaled, served_by
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(300)

RATE = 300.0
PROBES = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("scaling")
    with two_of_each(folder, edges=1, routers=1, executors=1, validators=1, partitions=1, max_executors=3) as running:
        yield running


def test_executors_follow_the_actions_and_nothing_is_lost(stack: RunningStack, tmp_path: Path) -> None:
    with traffic(stack, tmp_path, chaos_seed(), RATE) as run:
        current = 1
        for target in (2, 3, 1):
            seconds = scaled(stack, current, target)
            print(f"{current} to {target} executors: confirmed {seconds:.2f} s after the action")
            served = served_by(stack, PROBES)
            run.num_probes += PROBES
            assert served == set(executors(stack))
            current = target
        record = run.check()
    print({name: record.summary[name] for name in ("p50_ms", "p99_ms", "max_ms")})
    assert [alert for name in ("executor-1", "executor-2") for alert in alerts(stack, name)] == []


def test_more_than_there_are_lanes_for_is_held(stack: RunningStack) -> None:
    held = confirmed(stack, act(stack, 1, 9))
    assert (held.outcome, held.replicas) == ("held", 1)
    assert held.reason == "There may be 0 to 3 executors (setting max_executors), not 9."


def test_status_says_how_many_there_should_be(stack: RunningStack) -> None:
    document = stack.isos_json("status")
    assert document["pools"] == [{"pool": "executors", "wanted": 1, "most": 3, "running": 1, "ready": 1}]
    assert "executors" in stack.isos("status").stdout


def test_the_scaler_moves_them_within_its_policy(stack: RunningStack) -> None:
    """Up to the least that a policy asks for and down again when it asks for less; each step says why."""
    quick = ("--upscale-delay-s", "0", "--downscale-delay-s", "2", "--cooldown-s", "0")
    document = stack.isos_json("scaling", "set", "--min-replicas", "2", "--max-replicas", "3", *quick)
    assert (document["min_replicas"], document["max_replicas"], document["is_set"]) == (2, 3, True)
    wait_until(lambda: stack.isos_json("scaling", "show")["replicas"] == 2, 60, "a second executor")
    assert executors(stack) == ["executor-0", "executor-1"]
    stack.isos("scaling", "set", "--min-replicas", "1")
    wait_until(lambda: replicas(stack) == 1, 60, "one executor again")
    up, down = [each for each in actions(stack) if each.decision != "hold"][-2:]
    assert (up.decision, up.current_replicas, up.target_replicas) == ("scale_up", 1, 2)
    assert up.reason.endswith("at least 2 stay.")
    assert (down.decision, down.current_replicas, down.target_replicas) == ("scale_down", 2, 1)
    assert "executors busy" in down.reason
    shown = stack.isos_json("scaling", "show")
    assert (shown["replicas"], shown["is_set"], shown["downscale_delay_s"]) == (1, True, 2)
