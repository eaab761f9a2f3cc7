"""Scaling while processes are killed: the number asked for is reached, and no request is lost or answered twice."""

import threading

import pytest

from infra.launcher import asked_for
from tests.support.faults import chaos_seed, traffic, two_of_each
from tests.support.scaling import act, confirmed, executors, replicas, scaled, served_by
from tests.support.stack import wait_until

pytestmark = pytest.mark.timeout(600)

RATE = 400.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaling")
    with two_of_each(folder, edges=1, routers=1, executors=1, validators=1, partitions=1, max_executors=3) as running:
        yield running


def done(stack, action_id, target):
    """The action is carried out once."""
    confirmation = confirmed(stack, action_id)
    assert (confirmation.outcome, confirmation.replicas) == ("done", target), confirmation
    assert executors(stack) == [f"executor-{instance}" for instance in range(target)]
    assert replicas(stack) == target


@pytest.mark.parametrize(("current", "target"), [(1, 3), (3, 1)])
def test_control_is_killed_in_the_middle_of_an_action(stack, tmp_path, current, target):
    with traffic(stack, tmp_path, chaos_seed(), RATE) as run:
        action_id = act(stack, current, target)
        wait_until(lambda: asked_for(stack.settings) == target, 30, "the number asked for")
        old = stack.kill("control")
        stack.wait_restarted("control", old)
        done(stack, action_id, target)
        run.probe()
        run.check()


def test_executors_are_killed_while_their_number_changes(stack, tmp_path):
    with traffic(stack, tmp_path, chaos_seed(), RATE) as run:
        up = act(stack, 1, 3)
        run.kill("executor-0")
        done(stack, up, 3)
        run.kill("executor-2")
        run.kill("executor-1")
        down = act(stack, 3, 2)
        run.kill("executor-0")
        done(stack, down, 2)
        run.probe()
        assert served_by(stack) == set(executors(stack))
        run.num_probes += 60
        run.check()
    scaled(stack, 2, 1)


def test_a_broker_that_stands_still_changes_nothing_and_the_action_goes_on(stack, tmp_path):
    before = stack.processes()
    with traffic(stack, tmp_path, chaos_seed(), RATE) as run:
        with run.frozen("broker"):
            threading.Event().wait(8.0)  # the length of the fault
            assert executors(stack) == ["executor-0"]
        run.probe()
        scaled(stack, 1, 2)
        scaled(stack, 2, 1)
        run.check()
    assert stack.processes()["executor-0"]["restarts"] == before["executor-0"]["restarts"]


def test_a_broker_that_is_away_for_20_s_changes_no_replica_count(stack, tmp_path):
    """Two executors by what is under way of a slow model, and a policy by which one is ended after 3 s without it."""
    flags = ("--min-replicas", "1", "--max-replicas", "2", "--upscale-delay-s", "1", "--downscale-delay-s", "3")
    stack.isos("scaling", "set", *flags, "--cooldown-s", "1", "--target-ongoing-requests", "1")
    with traffic(stack, tmp_path, chaos_seed(), 160.0, 80.0) as run:
        wait_until(lambda: executors(stack) == ["executor-0", "executor-1"], 60, "the second executor")
        pids = {name: stack.pid(name) for name in executors(stack)}
        run.probe()
        with run.frozen("broker"):
            threading.Event().wait(20.0)  # the length of the fault
            assert {name: stack.pid(name) for name in executors(stack)} == pids
        run.probe()
        run.kill("broker")
        assert {name: stack.pid(name) for name in executors(stack)} == pids
        assert asked_for(stack.settings) == 2
        run.check()
    wait_until(lambda: executors(stack) == ["executor-0"], 90, "the end of the second executor without a load")
