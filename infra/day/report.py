"""What the scripted day comes to: what must stand in its timeline, its figures, and how they are printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.commands.timeline import table_row
from infra.day.traffic import Flow
from infra.timeline import Line


@dataclass(frozen=True, slots=True)
class Must:
    """Something that a whole day's timeline has, after what stands before it in the list."""

    name: str
    holds: Callable[[Line], bool]


def _is(what: str, subject: str = "", reason: str = "") -> Callable[[Line], bool]:
    return lambda line: line.what.startswith(what) and subject in line.subject and reason in line.reason


def _scaled(*, up: bool) -> Callable[[Line], bool]:
    return lambda line: line.who == "scaler" and line.what.startswith("scale_up" if up else "scale_down")


MUST: Final = (
    Must("the first version serves", _is("PlanMadeEffective", "plan/digits", "v1.0.0")),
    Must("a review was asked for", _is("asks for a review", "ActivateVersion")),
    Must("it was approved", _is("ReviewApproved")),
    Must("the second version serves", _is("PlanMadeEffective", "plan/digits", "v1.1.0")),
    Must("executors were added", _scaled(up=True)),
    Must("executors were taken away", _scaled(up=False)),
    Must("drift was noticed", _is("alert: drift", "digits")),
    Must("a check of it failed", lambda line: line.what.startswith("check ") and line.what.endswith("failed")),
    Must("a person went back", _is("VersionRolledBack", "active/digits")),
    Must("the drift was over", _is("alert resolved: drift", "digits")),
    Must("a silent process was an incident", _is("IncidentRaised", "process_silent")),
    Must("the incident was closed", _is("IncidentResolved", "process_silent")),
)


def missing(lines: Sequence[Line], must: Sequence[Must] = MUST) -> tuple[str, ...]:
    """What the timeline lacks, or has in another order only, by name."""
    lacking: list[str] = []
    at = 0
    for each in must:
        found = next((place for place in range(at, len(lines)) if each.holds(lines[place])), None)
        if found is None:
            lacking.append(each.name)
        else:
            at = found
    return tuple(lacking)


def flow_figures(flow: Flow) -> dict[str, Any]:
    """Counts and latencies (ms from the scheduled time) of a flow."""
    latencies = np.array([latency for _, latency in flow.latencies] or [0.0])
    return {
        "sent": flow.sent,
        "ok": flow.num_ok,
        "versions": dict(flow.ok),
        "failed": dict(flow.failed),
        "p50_ms": round(float(np.percentile(latencies, 50)), 1),
        "p99_ms": round(float(np.percentile(latencies, 99)), 1),
    }


def show_timeline(console: Console, lines: Sequence[Line]) -> None:
    """The timeline as a table; what changed nothing is left out."""
    shown = [line for line in lines if not line.is_quiet]
    rows = [table_row(line, shown[0].time_us) for line in shown]
    table = Table(*(rows[0] if rows else ()), title="The day, from the log alone", title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    console.print(table)


def show_figures(console: Console, figures: Mapping[str, Any], chapters: Mapping[str, float]) -> None:
    """Traffic, and how long each chapter took."""
    table = Table("traffic", "sent", "OK", "p50 ms", "p99 ms", "versions", "not OK")
    for name, each in figures.items():
        texts = (", ".join(f"{key} {count}" for key, count in each[part].items()) for part in ("versions", "failed"))
        row = (str(each[part]) for part in ("sent", "ok", "p50_ms", "p99_ms"))
        table.add_row(name, *row, *texts)
    console.print(table)
    console.print("  ".join(f"{name}: {seconds:.0f} s" for name, seconds in chapters.items()), markup=False)
