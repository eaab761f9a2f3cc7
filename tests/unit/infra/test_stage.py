"""What stages are put together from: what ends with what, and groups that outlive their pauses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from infra import stage
from infra.roles import RoleContext, together
from infra.settings import load_settings
from infra.stage import faust_app, member_of_group, ready_when
from streams import faust_app as streams_app
from streams.connection import Connection
from streams.errors import RetriableError
from tests.support.fake_kafka import turns


def context(folder: Path, ready: list[int] | None = None, **flags: Any) -> RoleContext:
    settings = load_settings(data_dir=folder, **flags)
    seen = [] if ready is None else ready
    return RoleContext(settings, Connection("127.0.0.1:1"), "edge", 0, lambda: seen.append(1), lambda error: None)


async def test_the_first_failure_ends_all_jobs_and_is_raised() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise RetriableError("a claim was lost")

    with pytest.raises(RetriableError):
        await together(forever(), failing(), forever())
    assert ended == [1, 1]


async def test_a_stop_ends_all_jobs() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    running = asyncio.ensure_future(together(forever(), forever()))
    await turns()
    running.cancel()
    await asyncio.wait({running})
    assert ended == [1, 1]


async def test_ready_is_said_when_the_event_comes(tmp_path: Path) -> None:
    seen: list[int] = []
    event = asyncio.Event()
    waiting = asyncio.ensure_future(ready_when(event, context(tmp_path, seen)))
    await turns()
    assert seen == []
    event.set()
    await waiting
    assert seen == [1]


def test_a_groups_heartbeat_fits_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(stage, "consumer", lambda connection, **settings: given.update(settings))
    here = context(tmp_path)
    member_of_group(here, "isos-edge", isolation_level="read_committed")
    assert given["group_id"] == "isos-edge"
    assert given["isolation_level"] == "read_committed"
    assert given["session_timeout_ms"] == here.settings.session_timeout_s * 1000
    assert given["heartbeat_interval_ms"] * 3 <= given["session_timeout_ms"]


def test_each_process_has_a_faust_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        streams_app, "create_app", lambda name, connection, **settings: given.update(settings, name=name)
    )
    monkeypatch.setenv("ISOS_PROCESS_NAME", "router-7")
    faust_app(context(tmp_path), "router")
    assert given["name"] == "router"
    assert Path(given["data_dir"]).name == "faust-router-7"
