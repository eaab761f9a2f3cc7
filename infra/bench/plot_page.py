"""One page of plots from all results in a folder: self-contained HTML with inline SVG, no script and no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from infra.bench.plot import Axis, Line, bar_plot, line_plot
from infra.bench.report import targets
from infra.bench.scenario import SCENARIOS

NAME: Final = "index.html"
MAX_TIMELINES: Final = 6
_COLUMNS: Final = (
    *("sent", "ok", "rejected", "expired", "missing", "duplicated", "rate_rps", "mean_ms", "p50_ms", "p99_ms"),
    *("cpu_percent_total", "cpu_us_per_request"),
)
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; border-top: 1px solid #8886; padding-top: 1rem; margin-top: 2rem }
.plots { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; flex: 1 1 26rem; min-width: 0 }
figcaption { font-size: 13px; opacity: .8 } svg { width: 100%; height: auto }
svg text { fill: currentColor; font-size: 11px } .tick { text-anchor: middle } .tick.end { text-anchor: end }
.grid { stroke: currentColor; opacity: .15 } .limit { stroke: #d1495b; stroke-dasharray: 5 4 }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0 }
td, th { padding: .15rem .7rem; text-align: right }
td:first-child, th:first-child { text-align: left } .met { color: #2e8b57 } .unmet { color: #d1495b }
.scroll { overflow-x: auto }
"""


def write_page(folder: Path) -> Path:
    """Write the page from the folder's results and give its path; what is no result of a scenario is passed over."""
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(result, dict) and result.get("scenario") in SCENARIOS and "phases" in result:
            results.append(result)
    draft = folder / f"{NAME}.tmp"
    draft.write_text(page(results), encoding="utf-8")
    return draft.replace(folder / NAME)


def page(results: list[dict[str, Any]]) -> str:
    """The page; scenarios in the order of their table."""
    order = list(SCENARIOS)
    results = sorted(results, key=lambda result: order.index(result["scenario"]))
    body = "".join(_section(result) for result in results) or "<p>No results yet.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ML-ISOS benchmarks</title>'
        f"<style>{_STYLE}</style></head><body><h1>ML-ISOS benchmarks</h1>"
        "<p>Open loop; latencies count from the scheduled instant of a request. CPU in percent of one core, broker, "
        f"Redis and load generator included.</p>{body}</body></html>\n"
    )


def _section(result: Mapping[str, Any]) -> str:
    scenario = SCENARIOS[result["scenario"]]
    machine = result.get("machine", {})
    where = f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores; commit {result.get('commit', '')[:12]}"
    plots = [_figure(caption, svg) for caption, svg in _plots(result) if svg]
    goals = "".join(
        f'<li class="{"met" if met else "unmet"}">{escape(sentence)}: {"met" if met else "not met"}</li>'
        for sentence, met in targets(result, scenario)
    )
    return (
        f'<h2 id="{scenario.name}">{escape(scenario.name)}</h2><p>{escape(scenario.about)}. {escape(where)}.</p>'
        f'<ul>{goals}</ul><div class="plots">{"".join(plots)}</div><div class="scroll">{_table(result)}</div>'
    )


def _plots(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    phases = result["phases"]
    plots = [
        (f"Knee: latency by offered rate, {name}", _curve(points)) for name, points in result.get("curves", {}).items()
    ]
    for phase in phases[-MAX_TIMELINES:]:
        rows = phase["timeline"]
        lines = [Line(key[:-3], [(row["t_s"], row[key]) for row in rows]) for key in ("p50_ms", "p99_ms", "max_ms")]
        plots.append((f"Latency over time, {phase['name']}", line_plot(lines, Axis("s"), Axis("ms", log=True))))
        if phase["steps"] or any(row["ok"] != row["offered"] for row in rows):
            kinds = ("offered", "ok", "rejected", "expired", "error")
            lines = [Line(key, [(row["t_s"], row[key]) for row in rows]) for key in kinds]
            plots.append((f"Requests by how they ended, {phase['name']}", line_plot(lines, Axis("s"), Axis("per s"))))
    cpu = {phase["name"]: phase["cpu_percent"] for phase in phases[-MAX_TIMELINES:]}
    plots.append(("CPU by process", bar_plot(cpu, Axis("% of a core"))))
    return plots


def _curve(points: list[dict[str, Any]]) -> str:
    rows = sorted(points, key=lambda point: point["rate"])
    lines = [Line(key[:-3], [(row["rate"], row[key]) for row in rows]) for key in ("p50_ms", "p99_ms")]
    return line_plot(lines, Axis("requests/s"), Axis("ms", log=True))


def _figure(caption: str, svg: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(result: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("phase", *_COLUMNS))
    rows = "".join(f"<tr>{_cells(phase)}</tr>" for phase in result["phases"])
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cells(phase: Mapping[str, Any]) -> str:
    figures = "".join(f"<td>{_shown(phase.get(name))}</td>" for name in _COLUMNS)
    return f"<td>{escape(str(phase['name']))}</td>{figures}"


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"
