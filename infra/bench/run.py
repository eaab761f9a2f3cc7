"""One benchmark run: stack up, models in, load, ledger, figures, stack down."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from rich.console import Console

from infra.bench import client_run
from infra.bench.config import Config
from infra.bench.models import bench_model
from infra.bench.processes import Sample, commit, machine, sample
from infra.bench.report import GENERATOR, document, show, verdict
from infra.bench.scenario import SCENARIOS, Scenario
from infra.running_stack import running_stack, write_result
from infra.settings import ROOT, Settings, StartError, child_environment
from infra.stack_state import is_running, read_state
from streams.client.client import Client, NoResultError, RequestFailedError
from streams.codec import subject_of
from streams.connection import Connection
from streams.ledger import Report
from streams.registry.schema_log import read_schema_ids

SERVED_S: Final = 60.0
DRAIN_S: Final = 60.0


class GeneratorError(StartError):
    """The load generator ended before its time; the sentence is what it said last."""


def run_named(name: str, settings: Settings) -> int:
    """Run a scenario by name, write ``results/<name>.json``, print the figures; 7 when a request was lost or repeated.

    Raises StartError for an unknown scenario (exit code 2) and whatever keeps the stack from starting.
    """
    if name == client_run.NAME:
        return client_run.run_client(own_folder(settings))
    scenario = SCENARIOS.get(name)
    if scenario is None:
        names = ", ".join((*SCENARIOS, client_run.NAME))
        raise StartError(f"There is no scenario {name}; there are {names}.", exit_code=2)
    settings = own_folder(settings)
    console = Console(width=None if sys.stdout.isatty() else 150)
    with running_stack(settings):
        result, ledger = _measure(scenario, settings)
    path = write_result(name, result)
    show(console, result, scenario)
    wrong = verdict(result, ledger)
    for sentence in wrong:
        console.print(sentence, style="red", markup=False)
    console.print(f"Figures: {path}", markup=False)
    return 7 if wrong else 0


def own_folder(settings: Settings) -> Settings:
    """Settings with an empty data directory for benchmarks, unless the environment chose one or a stack runs there."""
    if os.environ.get("ISOS_DATA_DIR"):
        return settings
    folder = settings.data_dir / "bench"
    settings = settings.model_copy(update={"data_dir": folder})
    if not is_running(settings):
        shutil.rmtree(folder, ignore_errors=True)
    return settings


def _measure(scenario: Scenario, settings: Settings) -> tuple[dict[str, Any], Report]:
    from infra.commands.ledger import audit

    connection = Connection(settings.bootstrap)
    asyncio.run(_prepare(scenario, settings, connection))
    ids = asyncio.run(read_schema_ids(connection))
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            brokers=settings.bootstrap,
            schema_id=ids.write_ids[subject_of("inference.requests")],
            loads=scenario.loads,
            rate=scenario.rate,
            out=str(Path(folder) / "load"),
            run=uuid.uuid4().hex[:8],
            seconds=scenario.warmup_s + scenario.seconds,
            warmup_s=scenario.warmup_s,
            drain_s=DRAIN_S,
        )
        summary, looks = _generate(config, settings)
    ledger = audit(settings)
    place = {"machine": machine(), "commit": commit(ROOT)}
    return document(scenario, summary, ledger, looks, place), ledger


async def _prepare(scenario: Scenario, settings: Settings, connection: Connection) -> None:
    """Register the models and wait until each has answered once."""
    from executors.model_store import ModelStore
    from infra.registration import Registrar

    async with Registrar(connection, ModelStore(settings.data_dir), SERVED_S) as registrar:
        for seed, load in enumerate(scenario.loads):
            blob, facts = bench_model(load.model, seed)
            await registrar.register(blob, facts, wait_for_plan=False)
        for load in scenario.loads:
            await registrar.wait_for_plan(load.model)
    async with Client(settings.bootstrap) as client:
        await asyncio.gather(*(_served(client, load.model, load.item_shape) for load in scenario.loads))


async def _served(client: Client, model: str, item_shape: tuple[int, ...]) -> None:
    row = np.zeros((1, *item_shape), np.float32)
    deadline = time.monotonic() + SERVED_S
    while True:
        try:
            await client.infer(model, {"x": row}, timeout_ms=30_000)
            return
        except (RequestFailedError, NoResultError) as error:
            if time.monotonic() > deadline:
                raise StartError(f"{model} is not served after {SERVED_S:.0f} s: {error}.", exit_code=5) from error
            await asyncio.sleep(0.5)


def _generate(config: Config, settings: Settings) -> tuple[dict[str, Any], tuple[Sample, Sample]]:
    """Run the generator; its summary, and looks at all processes at both ends of the measured stretch."""
    path = Path(f"{config.out}.config.json")
    config.write(path)
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.bench.generator", str(path)],
        env=child_environment(settings, os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise GeneratorError("The load generator did not start; see above.", exit_code=1)
        pids = {**_pids(settings), GENERATOR: process.pid}
        looks = _look(config, pids, process.stdout)
        if process.wait(config.drain_s + 60) != 0:
            raise GeneratorError("The load generator failed; see above.", exit_code=1)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    summary: dict[str, Any] = json.loads(Path(f"{config.out}.json").read_text(encoding="utf-8"))
    return summary, looks


def _look(config: Config, pids: dict[str, int], lines: IO[str]) -> tuple[Sample, Sample]:
    """Look when the warm-up ends and just before the sending does; pass the generator's progress on."""
    before: Sample | None = None
    last = sample(pids)
    begun = time.monotonic()
    for line in lines:
        print(line.strip(), end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
        if not line.startswith("sent "):
            break
        elapsed = time.monotonic() - begun
        if before is None and elapsed >= config.warmup_s:
            before = sample(pids)
        elif elapsed < config.seconds:
            last = sample(pids)
    return before or last, last


def _pids(settings: Settings) -> dict[str, int]:
    state = read_state(settings)
    found = {row["name"]: int(row["pid"]) for row in state.get("processes", []) if row.get("pid")}
    supervisor = state.get("supervisor", {}).get("pid")
    return {**found, "supervisor": int(supervisor)} if supervisor else found
