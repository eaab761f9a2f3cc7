"""Restart processes of a running stack one after the other, so that none of what is under way is lost.

A process is asked to end (SIGTERM: it finishes what it has begun, commits, leaves its group), its supervisor starts it
anew from the code that is installed now, and the next one follows when this one is ready and its group has caught up
with what stood in its topic. The supervisor stays the same process.

The order puts the readers of a record before its writers, so that a release which writes more meets readers that know
it: control reads every process's heartbeats; Validator, executor, Router and edge follow from the end of the path to
its beginning; the Orchestrator, whose events all others read, is last. The one pair that reads each other's records in
both directions, control and Orchestrator, does so by schema resolution like everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from infra.process import is_alive, signal_group
from infra.settings import Settings, StartError
from infra.stack_state import is_running, read_state
from streams.connection import Connection
from streams.errors import RetriableError
from streams.group_progress import wait_caught_up
from streams.lane_class import executor_group, lanes_of
from streams.provision import topic_ids
from streams.topic_watch import edge_group

SERVERS: Final = ("broker", "redis")
ORDER: Final = (*SERVERS, "registry", "control", "validator", "executor", "router", "edge", "orchestrator")
STOP_S: Final = 12.0  # a role gives itself 10 s to finish and to leave its group
POLL_S: Final = 0.02
REQUESTS: Final = "inference.requests"
ROUTED: Final = "inference.routed"
GROUPS: Final = {
    "router": ("isos-router", "inference.admitted"),
    "validator": ("isos-validator", "inference.executed"),
}
"""Consumer group and topic (short name) of each stage.

The edge's group depends on the topic's id, the executor's on the class of its lanes.
"""

Report = Callable[[str, str, float], None]
"""Called with a process name, what happened to it, and the seconds since the restart began."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """One process: pids before (None: it was not running) and after, seconds to stop, to be ready, to catch up."""

    process: str
    old_pid: int | None
    pid: int
    stop_s: float
    ready_s: float
    caught_up_s: float | None
    killed: bool


def role_of(process: str) -> str:
    """Role of a process name: ``edge-1`` is an edge."""
    stem, _, number = process.rpartition("-")
    return stem if stem and number.isdigit() else process


def in_order(running: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Names of the processes to restart, readers before writers; ``wanted`` are processes or roles, empty for all ours.

    Raises:
        StartError: with exit code 3, when a wanted name is neither.
    """
    for name in wanted:
        if name not in running and name not in map(role_of, running):
            raise StartError(f"There is no process or role {name}; there are {', '.join(running)}.", exit_code=3)
    chosen = [
        name
        for name in running
        if (name in wanted or role_of(name) in wanted if wanted else role_of(name) not in SERVERS)
    ]
    position = {role: at for at, role in enumerate(ORDER)}
    return tuple(sorted(chosen, key=lambda name: position.get(role_of(name), len(ORDER))))


def restart(
    settings: Settings,
    wanted: Sequence[str] = (),
    *,
    rolling: bool = True,
    timeout_s: float = 120.0,
    report: Report = lambda name, event, seconds: None,
) -> tuple[Restarted, ...]:
    """Restart what is wanted, one at a time; without ``rolling`` all are stopped before the first is waited for.

    ``timeout_s`` is per process, for its start and its catching up.

    Raises:
        StartError: exit code 3 when nothing runs or a name is unknown, 4 while the stack starts or another restart is
            under way, 5 when a process does not come back in time.
    """
    if not is_running(settings):
        raise StartError(f"No stack is running in {settings.data_dir}; start it with `isos up`.", exit_code=3)
    state = read_state(settings)
    if not state.get("ready"):
        raise StartError("The stack is still starting; `isos status` tells when it is ready.", exit_code=4)
    names = in_order([row["name"] for row in state["processes"]], wanted)
    begun = time.monotonic()
    with _only_one(settings):
        groups = [(name,) for name in names] if rolling else [names]
        done: list[Restarted] = []
        for group in groups:
            stops = [(_stop(settings, name, begun, report)) for name in group]
            done += [_await(settings, stop, begun, timeout_s, report) for stop in stops]
    return tuple(done)


@dataclass(frozen=True, slots=True)
class _Stopped:
    process: str
    old_pid: int | None
    num_before: int
    stop_s: float
    killed: bool


def _stop(settings: Settings, name: str, begun: float, report: Report) -> _Stopped:
    row = _row(settings, name)
    pid, started = row["pid"], time.monotonic()
    if pid is None:
        return _Stopped(name, None, row["restarts"], 0.0, False)
    report(name, "stopping", started - begun)
    signal_group(pid, signal.SIGTERM)
    signal_group(pid, signal.SIGCONT)
    killed = not _until(lambda: not is_alive(pid), STOP_S)
    if killed:
        report(name, "killed", time.monotonic() - begun)
        signal_group(pid, signal.SIGKILL)
        _until(lambda: not is_alive(pid), STOP_S)
    return _Stopped(name, pid, row["restarts"], time.monotonic() - started, killed)


def _await(settings: Settings, stop: _Stopped, begun: float, timeout_s: float, report: Report) -> Restarted:
    name, started = stop.process, time.monotonic()

    def came_back() -> bool:
        row = _row(settings, name)
        return row["pid"] not in (None, stop.old_pid) and row["phase"] == "ready"

    if not _until(came_back, timeout_s):
        row = _row(settings, name)
        raise StartError(
            f"{name} is not ready {timeout_s:g} s after its restart (last exit status {row['last_exit']}); read "
            f"{row['log']}. The processes after it were not touched; `isos restart {name}` tries again.",
            exit_code=5,
        )
    ready_s = time.monotonic() - started
    report(name, "ready", time.monotonic() - begun)
    caught_up_s = _catch_up(settings, name, timeout_s)
    if caught_up_s is not None:
        report(name, "caught up", time.monotonic() - begun)
    pid = _row(settings, name)["pid"] or 0
    return Restarted(
        name, stop.old_pid, pid, round(stop.stop_s, 2), round(ready_s, 2),
        None if caught_up_s is None else round(caught_up_s, 2), stop.killed,
    )  # fmt: skip


def _catch_up(settings: Settings, name: str, timeout_s: float) -> float | None:
    role = role_of(name)
    if role not in (*GROUPS, "edge", "executor"):
        return None
    connection = Connection(settings.bootstrap)

    async def wait() -> float:
        if role == "edge":
            group, topic = edge_group((await topic_ids(connection, [REQUESTS]))[REQUESTS]), REQUESTS
        elif role == "executor":
            slow = int(name.rpartition("-")[2]) >= settings.most_executors
            mine = partial(lanes_of, num_slow=settings.num_slow_lanes, slow=slow)
            return await wait_caught_up(connection, executor_group(slow=slow), ROUTED, timeout_s, mine)
        else:
            group, topic = GROUPS[role]
        return await wait_caught_up(connection, group, topic, timeout_s)

    try:
        return asyncio.run(wait())
    except RetriableError as error:
        raise StartError(
            f"{name} is back and does not catch up: {error}. The processes after it were not touched; read "
            f"{_row(settings, name)['log']} and try again with `isos restart`.",
            exit_code=5,
        ) from error


def _row(settings: Settings, name: str) -> dict[str, Any]:
    if not is_running(settings):
        raise StartError(f"The supervisor in {settings.data_dir} has ended; start the stack with `isos up`.", 3)
    rows: list[dict[str, Any]] = read_state(settings).get("processes", [])
    found = next((row for row in rows if row["name"] == name), None)
    if found is None:
        raise StartError(f"{name} was ended by scaling meanwhile; `isos restart` goes on with the others.", 4)
    return found


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    with (settings.run_dir / "restart.lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                "Another restart of this stack is under way; wait for it to end, `isos status` shows the processes.",
                exit_code=4,
            ) from None
        yield
