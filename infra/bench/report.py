"""A run's figures as one JSON document and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from infra.bench.config import LINGER_MS, TICK_MS
from infra.bench.phase import SUMMED, Measured
from infra.bench.scenario import Scenario
from streams.ledger import Report

LATENCIES: Final = ("mean_ms", "p50_ms", "p99_ms", "max_ms")


def document(
    scenario: Scenario,
    phases: Sequence[Measured],
    extra: Mapping[str, Any],
    ledger: Report,
    place: Mapping[str, Any],
) -> dict[str, Any]:
    """The result of one run.

    Counts are sums over all phases; rate, latency and CPU are those of the last one. ``missing`` and ``duplicated`` are
    the larger of what ledger and generator found; ``cpu_percent_total`` counts the generator in, as the machine has to
    carry it too. ``place`` holds machine, commit and what the stack was started with.
    """
    last = phases[-1]
    summary, cpu = last.summary, last.cpu()
    sums = {name: sum(phase.summary[name] for phase in phases) for name in SUMMED}
    open_requests = ledger.total("missing") + ledger.total("in_flight")
    return {
        "scenario": scenario.name,
        "about": scenario.about,
        "parameters": {
            "requests": "one record with one row each; FP32, 1 KiB, where the phase says nothing else",
            "generator": f"open loop, leaves every {TICK_MS:g} ms, linger.ms {LINGER_MS:g}, acks=all",
            "rate": last.phase.rate,
            "seconds": last.phase.seconds,
            "warmup_s": last.phase.warmup_s,
        },
        **place,
        **sums,
        "rate_rps": summary["rate_rps"],
        **{name: summary[name] for name in LATENCIES},
        "late_start_p99_ms": summary["late_start_p99_ms"],
        "cpu_percent": cpu,
        "cpu_percent_total": round(sum(cpu.values()), 1),
        "cpu_us_per_request": last.cpu_us_per_request(),
        "rss_mb": last.last_rss_mb(),
        "missing": max(open_requests, sums["missing"]),
        "duplicated": max(ledger.total("duplicated"), sums["duplicated"]),
        "reaped": max(ledger.total("reaped"), sums["reaped"]),
        "ledger": {name: ledger.total(name) for name in ("received", "ok", "error", "rejected", "expired")},
        **extra,
        "phases": [phase.document() for phase in phases],
    }


def verdict(result: Mapping[str, Any], ledger: Report, scenario: Scenario) -> tuple[str, ...]:
    """What makes a run invalid, in sentences: loss, duplicates, and requests that did not end OK where all have to."""
    wrong = list(ledger.violations(drained=True))
    bad = ("missing", "duplicated", "reaped", "misplaced", "unacknowledged")
    wrong += [f"{result[name]} {name}" for name in bad if result[name]]
    if scenario.all_ok and result["ok"] != result["sent"]:
        wrong.append(f"{result['sent'] - result['ok']} of {result['sent']} requests did not end OK")
    return tuple(dict.fromkeys(wrong))


def targets(result: Mapping[str, Any], scenario: Scenario) -> list[tuple[str, bool]]:
    """What each target says, with the figure, and whether it was met."""
    return [
        (f"{target.key} {result.get(target.key)}, {target.sense} {target.limit:g}", target.met(result.get(target.key)))
        for target in scenario.targets
    ]


def median_run(runs: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """The run in the middle by a figure, with the others' key figures beside it under ``runs``."""
    if len(runs) == 1:
        return runs[0]
    ordered = sorted(runs, key=lambda run: _or_last(run.get(key)))
    figures: list[dict[str, Any]] = [
        {name: run.get(name) for name in dict.fromkeys((key, "rate_rps", *LATENCIES))} for run in runs
    ]
    medians: dict[str, float] = {}
    for name in figures[0]:
        values: list[float] = [row[name] for row in figures if row[name] is not None]
        if len(values) == len(runs):
            medians[name] = statistics.median(values)
    return {**ordered[(len(ordered) - 1) // 2], "runs": figures, "median": medians}


def _or_last(value: float | None) -> float:
    return float("inf") if value is None else value


def show(console: Console, result: Mapping[str, Any], scenario: Scenario) -> None:
    """Print the phases, the processes of the last one, what the scenario adds, and the targets."""
    console.print(f"{scenario.name}: {scenario.about}", "")
    _show_phases(console, result["phases"])
    rows = Table(box=None, pad_edge=False)
    rows.add_column("process")
    rows.add_column("CPU, % of a core", justify="right")
    rows.add_column("memory, MB", justify="right")
    for name, size in result["rss_mb"].items():
        rows.add_row(name, str(result["cpu_percent"].get(name, "-")), str(size))
    rows.add_row("all", str(result["cpu_percent_total"]), str(round(sum(result["rss_mb"].values()), 1)), style="bold")
    console.print(rows, "")
    for sentence, met in targets(result, scenario):
        console.print(f"target {sentence}: {'met' if met else 'not met'}", markup=False, highlight=False)
    console.print(f"sent {result['sent']}, missing {result['missing']}, duplicated {result['duplicated']}")


def _show_phases(console: Console, phases: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("phase")
    names = ("sent", "ok", "rate_rps", *LATENCIES, "cpu_percent_total", "cpu_us_per_request")
    for name in names:
        table.add_column(name, justify="right")
    for phase in phases:
        table.add_row(phase["name"], *("-" if phase[name] is None else str(phase[name]) for name in names))
    console.print(table, "")
