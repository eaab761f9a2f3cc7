"""How many requests a second are carried: the scenario ``capacity``, and the search that others begin with."""

from __future__ import annotations

import statistics
from typing import Any, Final

from infra.bench.knee import find_knee
from infra.bench.models import mlps
from infra.bench.phase import Measured, Phase
from infra.bench.template import Load
from infra.bench.workbench import Workbench

LIMIT_MS: Final = 100.0
START_RPS: Final = 4_000.0
PROBE_S: Final = 6.0
WARM_RPS: Final = 3_000.0
WARM_S: Final = 30.0
REPEATS: Final = 3
BACK: Final = 0.94
"""What the rate is multiplied by when the repeats at a knee do not hold."""
MOST_BACK: Final = 8
"""How often; a search that was lucky is up to a third too high."""


def carried(measured: Measured, limit_ms: float = LIMIT_MS) -> bool:
    """Tell whether all is OK, nothing is missing or doubled, and p99 is under the limit."""
    found = measured.summary
    whole = found["ok"] == found["sent"] and not found["missing"] and not found["duplicated"]
    return whole and found["p99_ms"] is not None and found["p99_ms"] < limit_ms


def warm(bench: Workbench, loads: tuple[Load, ...]) -> None:
    """Load the stack until the broker's code is compiled, or the first probes would measure its compiler."""
    bench.measure(Phase("warm-up", loads, WARM_RPS, 1.0, WARM_S - 1.0))


def knee_of(
    bench: Workbench,
    name: str,
    loads: tuple[Load, ...],
    start: float,
    *,
    limit_ms: float = LIMIT_MS,
    timeout_ms: int = 0,
) -> tuple[float | None, list[dict[str, Any]]]:
    """Search the knee of a mix; and the points of its curve: offered rate, latency, whether it was carried."""
    curve: list[dict[str, Any]] = []

    def probe(rate: float) -> bool:
        phase = Phase(f"{name} at {rate:.0f}", loads, rate, PROBE_S, 3.0, timeout_ms=timeout_ms)
        return _point(bench.measure(phase), curve, limit_ms)

    return find_knee(probe, start), curve


def _point(measured: Measured, curve: list[dict[str, Any]], limit_ms: float) -> bool:
    good = carried(measured, limit_ms)
    found = measured.summary
    latencies = {name: found[name] for name in ("mean_ms", "p50_ms", "p99_ms")}
    cpu = round(sum(measured.cpu().values()), 1)
    curve.append({"rate": measured.phase.rate, **latencies, "carried": good, "cpu_percent_total": cpu})
    return good


def capacity(bench: Workbench) -> dict[str, Any]:
    """Capacity with twelve models and with one; the first is the scenario's figure."""
    models = mlps(12)
    bench.serve(models)
    loads = tuple(model.load for model in models)
    warm(bench, loads)
    result: dict[str, Any] = {"limit_ms": LIMIT_MS, "curves": {}}
    for name, mix in (("12 models", loads), ("1 model", loads[:1])):
        rate, repeats = _confirmed(bench, name, mix, result["curves"])
        result[f"capacity_{len(mix)}_rps"] = rate
        result[f"repeats_{len(mix)}"] = repeats
    result["capacity_rps"] = result["capacity_12_rps"]
    return result


def _confirmed(
    bench: Workbench, name: str, loads: tuple[Load, ...], curves: dict[str, Any]
) -> tuple[float | None, list[dict[str, Any]]]:
    """A knee at which the median of three longer runs holds; a little less than was found if it does not."""
    rate, curves[name] = knee_of(bench, name, loads, START_RPS)
    repeats: list[dict[str, Any]] = []
    for _ in range(MOST_BACK):
        if rate is None:
            return None, repeats
        points: list[dict[str, Any]] = []
        for number in range(REPEATS):
            phase = Phase(f"{name}, repeat {number + 1} at {rate:.0f}", loads, rate, 12.0, 3.0)
            _point(bench.measure(phase), points, LIMIT_MS)
        repeats = points
        if statistics.median(point["carried"] for point in points):
            return round(rate, 1), repeats
        rate *= BACK
    return None, repeats
