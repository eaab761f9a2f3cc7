"""How an executor is put together: models first, lanes then, and closed whole when it cannot start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executors.crash_log import CrashLog
from infra.executor import ExecutorInputs, PlannedModels, open_executor
from infra.settings import load_settings
from schemas.plan import SLOW
from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError, consumer
from streams.letters.deadletter import DeadLetters
from streams.memory_view import MemoryView, batch_bound
from tests.support.broker import free_ports
from tests.support.fake_kafka import FakeProducer
from tests.support.frames import MODEL, memory, plan

PLANNED = memory(MODEL, plan("digits", ("v1.0.0", 100)))


class Reader:
    """A consumer that notes what happens to it."""

    _client = SimpleNamespace(force_metadata_update=lambda: None)

    def __init__(self) -> None:
        self.started = self.stopped = 0

    async def start(self) -> None:
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1


class Loader:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, str]] = []
        self.bounds: list[int] = []

    def bound(self, view: MemoryView) -> None:
        self.bounds.append(batch_bound(view, "digits"))

    def want(self, model: str, version: str) -> None:
        self.wanted.append((model, version))


@pytest.fixture
def crashes(tmp_path: Path) -> Iterator[CrashLog]:
    log = CrashLog(tmp_path, "executor-3")
    yield log
    log.close()


def inputs(crashes: CrashLog, reader: Any, view: Any = PLANNED) -> ExecutorInputs:
    producer: Any = FakeProducer()
    schemas: Any = SimpleNamespace(codec=Codec(SchemaIds.local()))
    return ExecutorInputs(
        "executor-3", reader, producer, schemas, DeadLetters(producer, "executor"), lambda: view,
        crashes, PlannedModels(2, 0, slow=False),
    )  # fmt: skip


def test_what_plans_send_to_its_lanes_is_loaded_as_soon_as_somebody_can() -> None:
    here, loader = PlannedModels(4, 1, slow=False), Loader()
    given: Any = loader
    here.changed(PLANNED)
    assert loader.wanted == []
    here.load_by(given, PLANNED)
    assert loader.wanted == [("digits", "v1.0.0")]
    here.changed(memory(MODEL, plan("digits", ("v2.0.0", 100))))
    here.changed(memory(MODEL, plan("digits", ("v3.0.0", 100), lane=SLOW)))
    assert loader.wanted == [("digits", "v1.0.0"), ("digits", "v2.0.0")]
    assert loader.bounds == [0, 0, 0], "of each change of memory"


async def test_settings_reach_the_parts_and_lanes_are_taken_when_models_are_settled(
    tmp_path: Path, crashes: CrashLog
) -> None:
    reader = Reader()
    async with open_executor(load_settings(data_dir=tmp_path, tick_ms=2), inputs(crashes, reader)) as opened:
        (failed,) = opened.loader.take_failed()
        assert failed[0] == ("digits", "v1.0.0"), "no such blob: that is settled too"
        assert (reader.started, reader.stopped, opened.loading.done()) == (1, 0, False)
        assert opened.loop._tick_s == 0.002
        assert opened.loop._execution.outbox._executor == "executor-3"
    assert reader.stopped == 1
    await asyncio.wait({opened.loading})
    assert opened.loading.cancelled()


async def test_no_lane_is_taken_while_a_model_loads(
    tmp_path: Path, crashes: CrashLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def load(self: Any, key: tuple[str, str]) -> None:
        await gate.wait()

    monkeypatch.setattr("executors.loader.ModelLoader._load", load)
    reader, entered = Reader(), asyncio.Event()

    async def opening() -> None:
        async with open_executor(load_settings(data_dir=tmp_path), inputs(crashes, reader)):
            entered.set()

    task = asyncio.ensure_future(opening())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(entered.wait(), 0.1)
    assert reader.started == 0
    gate.set()
    await asyncio.wait_for(task, 10)
    assert (entered.is_set(), reader.started, reader.stopped) == (True, 1, 1)


async def test_a_broker_that_is_away(tmp_path: Path, crashes: CrashLog) -> None:
    (port,) = free_ports(1)
    reader = consumer(Connection(f"127.0.0.1:{port}"))
    with pytest.raises(UnreachableError):
        async with open_executor(load_settings(data_dir=tmp_path), inputs(crashes, reader, memory(MODEL))):
            pytest.fail("it opened")
