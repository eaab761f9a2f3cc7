"""A running stack to measure on: register models, put loads on it one after the other, ask the ledger at the end."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from infra.bench.config import Config
from infra.bench.generate import generate
from infra.bench.models import Model
from infra.bench.phase import Measured, Phase
from infra.settings import Settings, StartError
from streams.client.client import Client, NoResultError, RequestFailedError
from streams.codec import subject_of
from streams.connection import Connection
from streams.ledger import Report
from streams.registry.schema_log import read_schema_ids

SERVED_S: Final = 60.0
DTYPES: Final = {"FP32": np.float32, "UINT8": np.uint8}


@dataclass(slots=True)
class Workbench:
    """One stack; ``phases`` are the loads it has had, ``params`` what a scenario is told beside its defaults."""

    settings: Settings
    console: Console
    phases: list[Measured] = field(default_factory=list)
    params: Mapping[str, float] = field(default_factory=dict)

    def serve(self, models: Sequence[Model]) -> None:
        """Register models and wait until each has answered once. Raises StartError."""
        self.say(f"registering {len(models)} models")
        asyncio.run(self._serve(models))

    def cache_answers(self, models: Sequence[Model]) -> None:
        """Have the models' answers cached from now on."""
        self.say(f"caching answers of {len(models)} models")
        asyncio.run(self._cache_answers(models))

    def measure(self, phase: Phase) -> Measured:
        """Put a load on the stack, wait for its results, and give what it showed. Raises GeneratorError."""
        self.say(f"{phase.name}: {_words(phase)}")
        ids = asyncio.run(read_schema_ids(Connection(self.settings.bootstrap)))
        with tempfile.TemporaryDirectory() as folder:
            config = Config(
                brokers=self.settings.bootstrap,
                schema_id=ids.write_ids[subject_of("inference.requests")],
                loads=phase.loads,
                rate=phase.rate,
                out=str(Path(folder) / "load"),
                run=uuid.uuid4().hex[:8],
                seconds=phase.warmup_s + phase.seconds,
                warmup_s=phase.warmup_s,
                drain_s=phase.drain_s,
                timeout_ms=phase.timeout_ms,
                steps=phase.steps,
                confirm=False,
            )
            measured = generate(phase, config, self.settings)
        self.phases.append(measured)
        self.say(f"{phase.name}: {_figures(measured)}")
        return measured

    def audit(self) -> Report:
        """The ledger of everything so far."""
        from infra.commands.ledger import audit

        return audit(self.settings)

    def say(self, text: str) -> None:
        """Show progress on stderr."""
        self.console.print(text, style="dim", markup=False, highlight=False)

    async def _serve(self, models: Sequence[Model]) -> None:
        from executors.model_store import ModelStore
        from infra.registration import Registrar

        connection = Connection(self.settings.bootstrap)
        async with Registrar(connection, ModelStore(self.settings.data_dir), SERVED_S) as registrar:
            for model in models:
                await registrar.register(model.blob, model.facts, wait_for_plan=False)
            for model in models:
                await registrar.wait_for_plan(model.load.model)
        async with Client(self.settings.bootstrap) as client:
            await asyncio.gather(*(_answered(client, model) for model in models))

    async def _cache_answers(self, models: Sequence[Model]) -> None:
        from infra.cache_control import CacheControl

        async with CacheControl(Connection(self.settings.bootstrap), SERVED_S) as control:
            for model in models:
                await control.change(model.load.model, lambda policy: replace(policy, enabled=True, epoch=1))


async def _answered(client: Client, model: Model) -> None:
    load = model.load
    row = np.zeros((1, *load.item_shape), DTYPES[load.datatype])
    deadline = time.monotonic() + SERVED_S
    while True:
        try:
            await client.infer(load.model, {load.tensor: row}, timeout_ms=30_000)
            return
        except (RequestFailedError, NoResultError) as error:
            if time.monotonic() > deadline:
                raise StartError(f"{load.model} is not served after {SERVED_S:.0f} s: {error}.", exit_code=5) from error
            await asyncio.sleep(0.5)


def _words(phase: Phase) -> str:
    pieces = phase.steps or ((phase.rate, phase.warmup_s + phase.seconds),)
    return ", then ".join(f"{rate:.0f} a second for {seconds:.0f} s" for rate, seconds in pieces)


def _figures(measured: Measured) -> str:
    found = measured.summary
    words = [f"{found['ok']} of {found['sent']} OK", f"p50 {found['p50_ms']} ms", f"p99 {found['p99_ms']} ms"]
    words += [f"{found[name]} {name}" for name in ("missing", "duplicated") if found[name]]
    return ", ".join(words)
