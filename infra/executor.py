"""Composition of an executor: its models and its loop, from settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from executors.crash_log import CrashLog
from executors.lanes import planned_versions
from executors.loader import ModelLoader
from executors.model_store import ModelStore
from executors.retry import max_attempts
from executors.worker import Worker
from infra.settings import Settings
from streams.blobs.blob_store import LocalBlobStore
from streams.connection import start, stop_quietly
from streams.key_order import ordered_as_of
from streams.letters.deadletter import DeadLetters
from streams.memory_view import MemoryView
from streams.registry.schema_watch import SchemaWatch

TICK_MS: Final = 4
LOOK_S: Final = 0.02


class PlannedModels:
    """Has the versions loaded that plans send to the lanes of one class, of now and of each change of memory.

    Their batches are as large as memory says, where it does.
    """

    def __init__(self, num_lanes: int, num_slow: int, *, slow: bool) -> None:
        self._lanes = num_lanes, num_slow
        self._slow = slow
        self._loader: ModelLoader | None = None

    def load_by(self, loader: ModelLoader, view: MemoryView) -> None:
        """Have them loaded from now on; before, nobody can."""
        self._loader = loader
        self.changed(view)

    def changed(self, view: MemoryView) -> None:
        """Memory is another."""
        if self._loader is not None:
            for version in planned_versions(view, *self._lanes, slow=self._slow):
                self._loader.want(*version)
            self._loader.bound(view)


@dataclass(frozen=True, slots=True)
class ExecutorInputs:
    """What an executor is given: its consumer, not started, and started helpers. ``planned`` hears of memory."""

    name: str
    reader: AIOKafkaConsumer
    producer: AIOKafkaProducer
    schemas: SchemaWatch
    dead_letters: DeadLetters
    memory: Callable[[], MemoryView]
    crashes: CrashLog
    planned: PlannedModels


@dataclass(frozen=True, slots=True)
class OpenExecutor:
    """An executor whose models are warm and whose consumer has started. Run ``loop`` and ``loading`` side by side."""

    loop: Worker
    loader: ModelLoader
    loading: asyncio.Task[None]


@contextlib.asynccontextmanager
async def open_executor(settings: Settings, given: ExecutorInputs) -> AsyncIterator[OpenExecutor]:
    """Open an executor and close all of it. Raises RetriableError when the broker cannot be reached.

    A lane is taken only when the planned models are warm.
    """
    memory = given.memory
    loader = ModelLoader(ModelStore(settings.data_dir), settings.device, memory, crashes=given.crashes)
    given.planned.load_by(loader, memory())
    loop = Worker(
        given.reader,
        given.producer,
        given.schemas.codec,
        loader,
        LocalBlobStore.below(settings.data_dir),
        given.dead_letters.write,
        name=given.name,
        tick_ms=min(settings.tick_ms, TICK_MS),
        schemas=given.schemas,
        max_attempts=lambda model: max_attempts(memory(), model),
        ordered=lambda sequence: ordered_as_of(memory(), sequence),
    )
    loading = asyncio.ensure_future(loader.run())
    try:
        while not (loader.is_settled or loading.done()):
            await asyncio.sleep(LOOK_S)
        await start(given.reader, "starting the executor's consumer")
        yield OpenExecutor(loop, loader, loading)
    finally:
        loading.cancel()
        await stop_quietly(given.reader)
