"""What a request and a frame cost each process, as rows and as a Markdown table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.bench.processes import Sample


def cost_rows(before: Sample, after: Sample, requests: float, frames: float) -> list[dict[str, Any]]:
    """CPU time per process between two looks: percent of a core, us per request (user and system apart), ms per frame.

    ``requests`` and ``frames`` are how many there were between the looks. The costliest first, then a row of sums.
    """
    elapsed = after.at_s - before.at_s
    rows = []
    for name, used in after.cpu_s.items():
        if name not in before.cpu_s:
            continue
        total = used - before.cpu_s[name]
        system = after.system_s.get(name, 0.0) - before.system_s.get(name, 0.0)
        rows.append(_row(name, total, system, elapsed, requests, frames))
    rows.sort(key=lambda row: -row["cpu_percent"])
    used = sum(after.cpu_s[row["process"]] - before.cpu_s[row["process"]] for row in rows)
    system = sum(after.system_s.get(row["process"], 0) - before.system_s.get(row["process"], 0) for row in rows)
    return [*rows, _row("all", used, system, elapsed, requests, frames)]


def _row(name: str, total: float, system: float, elapsed: float, requests: float, frames: float) -> dict[str, Any]:
    def per(seconds: float, count: float, scale: float) -> float | None:
        return round(seconds / count * scale, 2) if count else None

    return {
        "process": name,
        "cpu_percent": round(100 * total / elapsed, 1) if elapsed else 0.0,
        "us_per_request": per(total, requests, 1e6),
        "user_us": per(total - system, requests, 1e6),
        "system_us": per(system, requests, 1e6),
        "ms_per_frame": per(total, frames, 1e3),
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows with the same keys; the first column to the left, figures to the right."""
    names = list(rows[0]) if rows else []
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "|".join("---" if number == 0 else "---:" for number in range(len(names))) + "|")
    for row in rows:
        lines.append("| " + " | ".join("-" if row[name] is None else str(row[name]) for name in names) + " |")
    return "\n".join(lines) + "\n"
