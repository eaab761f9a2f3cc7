"""One benchmark run: stack up, models in, loads, ledger, figures, stack down."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from infra.bench import client_run
from infra.bench.plot_page import write_page
from infra.bench.processes import commit, machine
from infra.bench.report import document, median_run, show, verdict
from infra.bench.scenario import SCENARIOS, Scenario
from infra.bench.workbench import Workbench
from infra.running_stack import running_stack, write_result
from infra.settings import ROOT, Settings, StartError
from infra.stack_state import is_running
from streams.ledger import Report


def run_named(name: str, settings: Settings, repeat: int = 1, params: Sequence[str] = ()) -> int:
    """Run a scenario by name, write ``results/<name>.json``, print the figures; 7 when a request was lost or repeated.

    ``repeat``: run it that often, each on a new stack, and report the median run. ``params``: ``NAME=NUMBER`` each, of
    those that the scenario has. Raises StartError for an unknown scenario or parameter (exit code 2) and whatever keeps
    the stack from starting.
    """
    if name == client_run.NAME:
        return client_run.run_client(own_folder(settings))
    scenario = SCENARIOS.get(name)
    if scenario is None:
        names = ", ".join((*SCENARIOS, client_run.NAME))
        raise StartError(f"There is no scenario {name}; there are {names}.", exit_code=2)
    numbers = parsed(scenario, params)
    console = Console(width=None if sys.stdout.isatty() else 150)
    runs: list[dict[str, Any]] = []
    wrong: list[str] = []
    for number in range(repeat):
        result, ledger = _one(scenario, own_folder(settings), numbers)
        runs.append(result)
        wrong += verdict(result, ledger, scenario)
        if repeat > 1:
            console.print(f"run {number + 1} of {repeat}: {scenario.key} {result.get(scenario.key)}", markup=False)
    result = median_run(runs, scenario.key)
    path = write_result(name, result)
    show(console, result, scenario)
    for sentence in wrong:
        console.print(sentence, style="red", markup=False)
    console.print(f"Figures: {path}, plots: {write_page(path.parent)}", markup=False)
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


def parsed(scenario: Scenario, params: Sequence[str]) -> dict[str, float]:
    """Numbers by name, each positive. Raises StartError (exit code 2)."""
    numbers: dict[str, float] = {}
    for each in params:
        name, _, text = each.partition("=")
        if name not in scenario.params:
            known = ", ".join(scenario.params) or "none"
            raise StartError(f"{scenario.name} has no parameter {name!r}; it has: {known}.", exit_code=2)
        try:
            numbers[name] = float(text)
        except ValueError:
            numbers[name] = math.nan
        if not 0 < numbers[name] < math.inf:
            raise StartError(f"{name} is a positive number, not {text!r}: write {name}=NUMBER.", exit_code=2)
    return numbers


def _one(scenario: Scenario, settings: Settings, params: Mapping[str, float]) -> tuple[dict[str, Any], Report]:
    if "broker_jit" not in settings.model_fields_set:
        settings = settings.model_copy(update={"broker_jit": scenario.broker_jit})
    needed = {name: value for name, value in scenario.needs if name not in settings.model_fields_set}
    settings = settings.model_copy(update=needed)
    bench = Workbench(settings, Console(stderr=True), params=params)
    with running_stack(settings):
        extra = scenario.run(bench)
        ledger = bench.audit()
    place = {"machine": machine(), "commit": commit(ROOT), "broker_jit": settings.broker_jit}
    return document(scenario, bench.phases, extra, ledger, place), ledger
