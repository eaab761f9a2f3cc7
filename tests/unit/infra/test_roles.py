"""The entry of every process: roles found by name, the readiness file, and the exit status of each ending."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import roles
from infra.health import unhealthy_because
from infra.roles import ROLES, TRY_AGAIN, Role, RoleContext, announce_ready, role_of
from infra.settings import Settings, load_settings
from streams.connection import Connection
from streams.errors import InvariantError, RetriableError
from streams.predecessor import MemberNote
from tests.support.fake_kafka import until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path)


def play(monkeypatch: pytest.MonkeyPatch, role: Role) -> None:
    monkeypatch.setattr(roles, "role_of", lambda _name: role)
    monkeypatch.delenv("ISOS_PROCESS_NAME", raising=False)


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The garbage collector as it was: a process that is ready changes it."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize("name", sorted(ROLES))
def test_every_role_is_a_coroutine_function_of_one_context(name: str) -> None:
    role = role_of(name)
    assert inspect.iscoroutinefunction(role)
    assert len(inspect.signature(role).parameters) == 1


def test_the_readiness_file_names_the_process(settings: Settings) -> None:
    announce_ready(settings, "edge-0")
    assert gc.get_threshold() == roles.GC_THRESHOLDS
    assert gc.get_freeze_count() > 0
    written = json.loads((settings.run_dir / "edge-0.ready").read_text())
    assert written["pid"] == os.getpid()
    assert written["ready_us"] > 0
    assert unhealthy_because(settings.run_dir / "edge-0.ready", time.time()) is None
    assert [path.name for path in settings.run_dir.glob("*.tmp")] == []


@pytest.mark.parametrize(
    ("error", "status"), [(RetriableError("away"), TRY_AGAIN), (InvariantError("bug"), 1), (KeyError(), 1)]
)
async def test_what_a_role_raises_gives_the_exit_status(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def role(context: RoleContext) -> None:
        raise error

    play(monkeypatch, role)
    assert await roles._main("edge", 0, settings) == status


async def test_a_defect_told_from_outside_the_role_ends_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    async def role(context: RoleContext) -> None:
        context.defect(InvariantError("a partition's task died"))
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(context.name)

    play(monkeypatch, role)
    assert await roles._main("router", 3, settings) == 1
    assert cleaned == ["router-3"]


async def test_a_role_that_ends_by_itself_is_done(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def role(context: RoleContext) -> None:
        context.ready()

    play(monkeypatch, role)
    assert await roles._main("provision", 0, settings) == 0
    assert (settings.run_dir / "provision-0.ready").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly(settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    started, cleaned = [], []

    async def role(context: RoleContext) -> None:
        started.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    play(monkeypatch, role)
    running = asyncio.ensure_future(roles._main("edge", 0, settings))
    await until(lambda: started)
    os.kill(os.getpid(), number)
    assert await asyncio.wait_for(running, 5) == 0
    assert cleaned == [1]
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(each)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_signal_lets_it_finish_its_work_for_a_while(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(roles, "DRAIN_S", 5.0 if ends else 0.05)

    async def drain() -> None:
        seen.append("draining")
        if not ends:
            await asyncio.Event().wait()

    async def role(context: RoleContext) -> None:
        context.drains.append(drain)
        seen.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    play(monkeypatch, role)
    running = asyncio.ensure_future(roles._main("edge", 0, settings))
    await until(lambda: seen)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 5) == 0
    assert seen == ["started", "draining", "cancelled"]
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(each)


async def test_goodbye_is_said_in_every_group_before_the_role_begins(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def leave(note: MemberNote, _connection: Connection) -> bool:
        told.append(str(note.read()))
        return True

    async def role(context: RoleContext) -> None:
        told.append("begun")

    play(monkeypatch, role)
    monkeypatch.setattr(MemberNote, "leave", leave)
    settings.run_dir.mkdir(parents=True)
    for name in ("control-0.planner", "control-0.monitor", "control-1.monitor", "control-0"):
        MemberNote(settings.run_dir / f"{name}.member").write("isos-group", name)
    await roles._main("control", 0, settings)
    mine = ("control-0", "control-0.monitor", "control-0.planner")
    assert told == [*(str(("isos-group", name)) for name in mine), "begun"]


async def test_the_supervisors_name_wins(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    async def role(context: RoleContext) -> None:
        names.append(context.name)

    play(monkeypatch, role)
    monkeypatch.setenv("ISOS_PROCESS_NAME", "edge-blue")
    await roles._main("edge", 0, settings)
    assert names == ["edge-blue"]


async def test_a_role_touches_its_readiness_file_while_its_loop_turns(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings.run_dir / "edge-0.ready"
    monkeypatch.setattr(roles, "BEAT_S", 0.01)

    async def role(context: RoleContext) -> None:
        context.ready()
        os.utime(path, (1, 1))
        await until(lambda: path.stat().st_mtime > 1)

    play(monkeypatch, role)
    assert await roles._main("edge", 0, settings) == 0
