"""The number of executors follows the newest action, memory hears of it in time, and doubt changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest

from infra.launcher import LauncherAwayError, PoolState
from infra.pools import Pool, executor_names
from infra.supervisor import MAX_AGE_US, RefusedError, Supervisor
from schemas.coordinate import RecordCoordinate
from schemas.scaling import Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from streams.errors import RetriableError
from tests.support.audit import Recorder

T = 1_700_000_000_000_000


ANY_NUMBER = ScalingPolicy("executors", 0, 64)


@dataclass
class FakeLauncher:
    """Executors by name, with a log of what was asked. ``broken``: they never get ready; ``deaf``: they never end."""

    wanted: int = 1
    most: int = 4
    broken: tuple[str, ...] = ()
    deaf: tuple[str, ...] = ()
    away: bool = False
    starting: int = 0
    first: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running = list(executor_names(self.wanted))

    def state(self) -> PoolState:
        if self.away:
            raise LauncherAwayError("no stack runs")
        if self.starting:
            self.starting -= 1
            raise LauncherAwayError("the stack is still starting", soon=True)
        names = executor_names(self.wanted, self.first)
        self.running = [name for name in self.running if name in names or name in self.deaf]
        self.running += [name for name in names if name not in self.running]
        ready = tuple(name for name in self.running if name not in self.broken)
        return PoolState(self.wanted, self.most, tuple(self.running), ready, self.first)

    def set(self, replicas: int) -> None:
        self.wanted = replicas
        self.log.append(f"set {replicas}")


@dataclass
class FakeMemory:
    """What is noted goes to the launcher's log too, so that the order of both can be seen."""

    log: list[str]
    standing: int | None = None
    limits: ScalingPolicy | None = ANY_NUMBER
    refuses: bool = False
    silent: bool = False
    causes: list[RecordCoordinate] = field(default_factory=list)

    def noted(self) -> int | None:
        return self.standing

    def policy(self) -> ScalingPolicy | None:
        return self.limits

    async def note(self, noted: Replicas, reason: str, causes: tuple[RecordCoordinate, ...]) -> None:
        if self.silent:
            raise RetriableError("nobody answers")
        if self.refuses:
            raise RefusedError("supervisor may not send NoteReplicas.")
        self.standing = noted.replicas
        self.causes += causes
        self.log.append(f"note {noted.replicas} {noted.action_id}".rstrip())


class World:
    """A supervisor between fakes."""

    def __init__(self, launcher: FakeLauncher, confirmed: tuple[str, ...] = (), **memory: object) -> None:
        self.launcher = launcher
        self.memory = FakeMemory(launcher.log, **memory)  # type: ignore[arg-type]
        self.confirmations: list[ScaleConfirmation] = []
        self.audit = Recorder()
        self.supervisor = Supervisor(
            launcher, self.memory, self.confirm, confirmed=confirmed, clock_us=lambda: T, start_s=0.1, stop_s=0.1,
            audited=self.audit.operation,
        )  # fmt: skip

    async def confirm(self, confirmation: ScaleConfirmation) -> None:
        self.confirmations.append(confirmation)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.supervisor.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def after(self, *actions: ScaleAction) -> list[ScaleConfirmation]:
        """The confirmations once each action has one."""
        async with self.running():
            for number, each in enumerate(actions):
                self.supervisor.ask(each, number)
                await until(lambda number=number: len(self.confirmations) > number)  # type: ignore[misc]
        return self.confirmations


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def action(target: int, *, current: int = 1, name: str = "", decision: str = "", time_us: int = T) -> ScaleAction:
    decision = decision or ("scale_up" if target > current else "scale_down")
    return ScaleAction(name or f"a{target}", "executors", decision, current, target, "load", time_us)


def done(target: int, *stopped: str) -> ScaleConfirmation:
    return ScaleConfirmation(f"a{target}", "executors", target, "done", T, "", stopped)


async def test_up_routers_hear_of_executors_that_are_ready() -> None:
    world = World(FakeLauncher())
    assert await world.after(action(3)) == [done(3)]
    assert world.launcher.log == ["set 3", "note 3 a3"]
    assert world.memory.causes == [RecordCoordinate("control.scale-actions", 0, 0)]


async def test_each_pool_has_its_own_supervisor() -> None:
    launcher = FakeLauncher()
    world = World(launcher)
    slow = replace(action(2), pool="executors-slow")
    pool = Pool("executors-slow", 4, 1, 2)
    other = Supervisor(launcher, world.memory, world.confirm, pool=pool, clock_us=lambda: T, start_s=0.1, stop_s=0.1)
    async with world.running():
        world.supervisor.ask(slow, 0)
        world.supervisor.ask(action(9), 1)
        await until(lambda: len(world.confirmations) == 1)
    assert [(each.pool, each.outcome) for each in world.confirmations] == [("executors", "held")]
    launcher.first, launcher.most, launcher.log[:] = 4, 2, []
    task = asyncio.create_task(other.run())
    try:
        for number, each in enumerate((slow, replace(slow, action_id="b", target_replicas=3))):
            other.ask(each, number)
            await until(lambda number=number: len(world.confirmations) == 2 + number)  # type: ignore[misc]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert launcher.log == ["set 2", "note 2 a2"]
    done_so, held = world.confirmations[1:]
    assert (done_so.pool, done_so.replicas, done_so.outcome) == ("executors-slow", 2, "done")
    assert (held.outcome, held.reason) == ("held", "There may be 0 to 2 executors (setting max_slow_executors), not 3.")


async def test_down_routers_hear_of_it_before_anything_is_ended() -> None:
    world = World(FakeLauncher(3))
    assert await world.after(action(1, current=3)) == [done(1, "executor-1", "executor-2")]
    assert world.launcher.log == ["note 1 a1", "set 1"]


async def test_each_step_is_audited_with_its_outcome() -> None:
    world = World(FakeLauncher(1, broken=("executor-2",)))
    await world.after(action(2), action(3, current=2), action(9, current=2))
    assert [(each.operation, each.resources, each.command_id, each.outcome) for each in world.audit.records] == [
        ("executors.scale_up", ("executors=2",), "a2", "done"),
        ("executors.scale_up", ("executors=3",), "a3", "failed"),
        ("executors.scale_up", ("executors=9",), "a9", "refused"),
    ]
    assert world.audit.records[0].resources_affected == ("executor-0", "executor-1")
    assert world.audit.records[1].error_detail == world.confirmations[1].reason != ""


async def test_to_zero_and_back() -> None:
    world = World(FakeLauncher(1))
    assert await world.after(action(0), action(1, current=0)) == [done(0, "executor-0"), done(1)]
    assert world.launcher.log == ["note 0 a0", "set 0", "set 1", "note 1 a1"]


async def test_what_does_not_get_ready_is_ended_again_and_routers_never_hear_of_it() -> None:
    world = World(FakeLauncher(1, broken=("executor-2",)))
    (failed,) = await world.after(action(3))
    assert (failed.outcome, failed.replicas) == ("failed", 1)
    assert failed.reason == "Within 0.1 s did not get ready: executor-2."
    assert failed.stopped == ("executor-1", "executor-2")
    assert world.launcher.log == ["set 3", "set 1"]


async def test_who_does_not_end_is_named() -> None:
    world = World(FakeLauncher(2, deaf=("executor-1",)))
    (failed,) = await world.after(action(1, current=2))
    assert (failed.outcome, failed.reason) == ("failed", "After 0.1 s still run: executor-1.")


@pytest.mark.parametrize("target", [-1, 5])
async def test_beyond_the_lanes_nothing_is_done(target: int) -> None:
    world = World(FakeLauncher())
    (held,) = await world.after(action(target))
    assert (held.outcome, held.replicas) == ("held", 1)
    assert held.reason == f"There may be 0 to 4 executors (setting max_executors), not {target}."
    assert world.launcher.log == []


async def test_without_a_stack_nothing_is_done() -> None:
    world = World(FakeLauncher(away=True))
    (held,) = await world.after(action(2))
    assert (held.outcome, held.reason) == ("held", "Nothing can be started or ended: no stack runs.")
    assert held.replicas == 1  # as the Scaler saw it: not knowing is not none


async def test_a_stack_that_is_still_starting_is_waited_for_with_an_action(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.supervisor.LAUNCHER_LOOK_S", 0.01)
    world = World(FakeLauncher(starting=5))
    assert await world.after(action(2)) == [done(2)]


async def test_when_memory_does_not_answer_nothing_is_ended_and_the_loop_begins_anew() -> None:
    world = World(FakeLauncher(3), silent=True)
    world.supervisor.ask(action(1, current=3), 0)
    with pytest.raises(RetriableError):
        await world.supervisor.run()
    assert (world.launcher.log, world.confirmations) == ([], [])


async def test_when_memory_refuses_nothing_is_ended() -> None:
    world = World(FakeLauncher(3), refuses=True)
    (failed,) = await world.after(action(1, current=3))
    assert (failed.outcome, failed.reason) == ("failed", "supervisor may not send NoteReplicas.")
    assert world.launcher.log == []


async def test_the_newest_action_wins() -> None:
    world = World(FakeLauncher(1, broken=("executor-2",)))
    async with world.running():
        world.supervisor.ask(action(3), 0)
        await until(lambda: world.launcher.log == ["set 3"])
        world.supervisor.ask(action(2), 1)
        await until(lambda: len(world.confirmations) == 2)
    assert [(each.action_id, each.outcome) for each in world.confirmations] == [("a3", "held"), ("a2", "done")]
    assert world.launcher.log == ["set 3", "note 2 a2", "set 2"]


async def test_a_newer_action_wins_also_while_the_stack_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.supervisor.LAUNCHER_LOOK_S", 0.01)
    world = World(FakeLauncher(starting=1_000))
    async with world.running():
        world.supervisor.ask(action(3), 0)
        await until(lambda: world.launcher.starting < 1_000)
        world.supervisor.ask(action(2), 1)
        await until(lambda: len(world.confirmations) == 1)
        world.launcher.starting = 0
        await until(lambda: len(world.confirmations) == 2)
    told = [(each.action_id, each.outcome, each.replicas) for each in world.confirmations]
    assert told == [("a3", "held", 1), ("a2", "done", 2)]


async def test_an_action_of_a_dead_supervisor_goes_on_and_what_it_ended_is_told() -> None:
    world = World(FakeLauncher(1), standing=1)
    assert await world.after(action(1, current=3)) == [done(1, "executor-1", "executor-2")]


async def test_holds_other_pools_and_what_is_confirmed_or_old_are_passed_over() -> None:
    world = World(FakeLauncher(), confirmed=("a3",))
    passed = (
        action(2, decision="hold"),
        ScaleAction("b", "gpus", "scale_up", 1, 2, "load", T),
        action(3),
        action(2, time_us=T - MAX_AGE_US - 1),
    )
    for number, each in enumerate(passed):
        world.supervisor.ask(each, number)
    assert await world.after(action(4)) == [done(4)]
    assert world.launcher.log == ["set 4", "note 4 a4"]


@pytest.mark.parametrize(
    ("wanted", "noted", "policy", "log"),
    [
        (1, None, True, []),
        (1, 1, True, []),
        (1, 3, True, ["set 3"]),
        (3, 0, True, ["set 0"]),
        (1, 9, True, ["set 4", "note 4"]),
        (2, 3, False, ["note 2"]),
    ],
)
async def test_after_a_restart_of_the_stack_the_noted_number_comes_back(
    wanted: int, noted: int | None, policy: bool, log: list[str]
) -> None:
    limits = ANY_NUMBER if policy else None
    world = World(FakeLauncher(wanted), standing=noted, limits=limits)
    async with world.running():
        await until(lambda: world.launcher.log == log)
        await until(lambda: noted is None or world.memory.standing == world.launcher.wanted)
    assert world.launcher.log == log


@pytest.mark.parametrize("target", [0, 1, 4])
async def test_what_the_policy_does_not_allow_is_held_whoever_wrote_it(
    monkeypatch: pytest.MonkeyPatch, target: int
) -> None:
    monkeypatch.setattr("infra.supervisor.POLICY_S", 0.02)
    world = World(FakeLauncher(2), standing=2, limits=ScalingPolicy("executors", 2, 3))
    held, allowed = await world.after(action(target, current=2), action(3, current=2))
    sentence = f"The policy of executors is 2 to 3 replicas (`isos scaling show`), not {target}."
    assert (held.outcome, held.replicas, held.reason) == ("held", 2, sentence)
    assert (allowed, world.launcher.log) == (done(3), ["set 3", "note 3 a3"])


async def test_a_policy_that_the_scaler_knows_first_is_waited_for() -> None:
    world = World(FakeLauncher(1), standing=1, limits=ScalingPolicy("executors", 1, 1))
    async with world.running():
        world.supervisor.ask(action(2), 0)
        await asyncio.sleep(0)
        world.memory.limits = ScalingPolicy("executors", 2, 3)
        await until(lambda: world.confirmations == [done(2)])


async def test_a_stack_that_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.supervisor.LAUNCHER_LOOK_S", 0.01)
    world = World(FakeLauncher(1, away=True), standing=2)
    async with world.running():
        await until(lambda: world.supervisor._asked is None)
        world.launcher.away = False
        await until(lambda: world.launcher.log == ["set 2"])
