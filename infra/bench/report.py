"""A run's figures as one JSON document and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from infra.bench.processes import Sample, cpu_percent
from infra.bench.scenario import Scenario
from streams.ledger import Report

GENERATOR: Final = "generator"
_LATENCIES: Final = ("mean_ms", "p50_ms", "p99_ms", "max_ms")


def document(
    scenario: Scenario,
    summary: Mapping[str, Any],
    ledger: Report,
    looks: tuple[Sample, Sample],
    place: Mapping[str, Any],
) -> dict[str, Any]:
    """The result of one run.

    ``summary`` is the generator's (``measure.Summary``), ``looks`` frame the measured stretch, ``place`` holds machine
    and commit. ``missing`` and ``duplicated`` are the larger of what ledger and generator found; ``cpu_percent_total``
    counts the generator in, as the machine has to carry it too.
    """
    cpu = cpu_percent(*looks)
    open_requests = ledger.total("missing") + ledger.total("in_flight")
    return {
        "scenario": scenario.name,
        "parameters": {**asdict(scenario), "requests": "one record, one 1 KiB row each"},
        **place,
        "sent": summary["sent"],
        "ok": summary["ok"],
        "error": summary["error"],
        "rejected": summary["rejected"],
        "expired": summary["expired"],
        "unacknowledged": summary["unacknowledged"],
        "rate_rps": summary["rate_rps"],
        **{name: summary[name] for name in _LATENCIES},
        "late_start_p99_ms": summary["late_start_p99_ms"],
        "cpu_percent": cpu,
        "cpu_percent_total": round(sum(cpu.values()), 1),
        "rss_mb": {name: round(size / 1e6, 1) for name, size in looks[1].rss_bytes.items()},
        "missing": max(open_requests, summary["missing"]),
        "duplicated": max(ledger.total("duplicated"), summary["duplicated"]),
        "reaped": max(ledger.total("reaped"), summary["reaped"]),
        "ledger": {name: ledger.total(name) for name in ("received", "ok", "error", "rejected", "expired")},
    }


def verdict(result: Mapping[str, Any], ledger: Report) -> tuple[str, ...]:
    """What makes a run invalid, in sentences: loss, duplicates, requests that did not end OK."""
    wrong = list(ledger.violations(drained=True))
    wrong += [f"{result[name]} {name}" for name in ("missing", "duplicated", "reaped") if result[name]]
    if result["ok"] != result["sent"]:
        wrong.append(f"{result['sent'] - result['ok']} of {result['sent']} requests did not end OK")
    return tuple(dict.fromkeys(wrong))


def targets(result: Mapping[str, Any], scenario: Scenario) -> list[tuple[str, float, bool]]:
    """Name, limit in ms and whether it was met, for each target that the scenario has."""
    limits = {"mean_ms": scenario.max_mean_ms, "p99_ms": scenario.max_p99_ms}
    return [
        (name, limit, result[name] is not None and result[name] <= limit)
        for name, limit in limits.items()
        if limit is not None
    ]


def show(console: Console, result: Mapping[str, Any], scenario: Scenario) -> None:
    """Print the figures and the processes."""
    console.print(f"{scenario.name}: {scenario.about}; {scenario.rate:.0f} a second for {scenario.seconds:.0f} s", "")
    figures = Table(box=None, pad_edge=False)
    names = ("sent", "ok", "rate_rps", *_LATENCIES, "missing", "duplicated", "reaped")
    for name in names:
        figures.add_column(name, justify="right")
    figures.add_row(*("-" if result[name] is None else str(result[name]) for name in names))
    console.print(figures, "")
    rows = Table(box=None, pad_edge=False)
    rows.add_column("process")
    rows.add_column("CPU, % of a core", justify="right")
    rows.add_column("memory, MB", justify="right")
    for name, size in result["rss_mb"].items():
        rows.add_row(name, str(result["cpu_percent"].get(name, "-")), str(size))
    rows.add_row("all", str(result["cpu_percent_total"]), str(round(sum(result["rss_mb"].values()), 1)), style="bold")
    console.print(rows, "")
    for name, limit, met in targets(result, scenario):
        console.print(f"target {name} <= {limit:g}: {'met' if met else 'not met'}")
