"""Scenarios of fixed loads: ``smoke``, ``headline``, ``tenfold``, ``idle``, ``payload``, ``images``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from infra.bench.capacity import warm
from infra.bench.models import image_means, mlps, sums
from infra.bench.phase import Phase
from infra.bench.workbench import Workbench

MAX_BYTES_S: Final = 12e6
"""Tensor bytes per second in ``payload`` and ``images``; small rows are bounded by ``MAX_ROWS_S`` instead."""
MAX_ROWS_S: Final = 1_000.0
SIZES: Final = {
    "1 KiB": 1 << 10,
    "4 KiB": 1 << 12,
    "16 KiB": 1 << 14,
    "64 KiB": 1 << 16,
    "256 KiB": 1 << 18,
    "2 MiB, as blobs": 1 << 21,
}
SIDES: Final = (32, 224)


def smoke(bench: Workbench) -> dict[str, Any]:
    """One model, a short look."""
    return _constant(bench, Phase("smoke", (), 2_000, 15, 5), 1)


def headline(bench: Workbench) -> dict[str, Any]:
    """Twelve models at 1,850 a second; the warm-up is the broker's: its code is compiled in the first half minute."""
    return _constant(bench, Phase("headline", (), 1_850, 60, 40), 12)


def tenfold(bench: Workbench) -> dict[str, Any]:
    """Ten times the headline, whether it is carried or not."""
    return _constant(bench, Phase("tenfold", (), 18_500, 30, 10, drain_s=120.0), 12, warmed=True)


def idle(bench: Workbench) -> dict[str, Any]:
    """Next to no load: what is left is the path itself, on a stack that has been used before."""
    return _constant(bench, Phase("idle", (), 20, 40, 10), 12, warmed=True)


def _constant(bench: Workbench, phase: Phase, num_models: int, *, warmed: bool = False) -> dict[str, Any]:
    models = mlps(num_models)
    bench.serve(models)
    loads = tuple(model.load for model in models)
    if warmed:
        warm(bench, loads)
    bench.measure(replace(phase, loads=loads))
    return {}


def payload(bench: Workbench) -> dict[str, Any]:
    """Rows of 1 KiB to 256 KiB inline, and of 2 MiB, which travel as blobs."""
    models = {name: sums(f"sum-{size}", size // 4) for name, size in SIZES.items()}
    bench.serve(list(models.values()))
    figures = {}
    for name, model in models.items():
        rate = _rate(model.load.row_bytes)
        measured = bench.measure(Phase(name, (model.load,), rate, 8, 3))
        figures[name] = {
            "rate_rps": measured.summary["rate_rps"],
            "mb_per_s": round(measured.summary["rate_rps"] * model.load.row_bytes / 1e6, 1),
            "p50_ms": measured.summary["p50_ms"],
            "p99_ms": measured.summary["p99_ms"],
            "cpu_us_per_request": measured.cpu_us_per_request(),
        }
    return {"sizes": figures}


def images(bench: Workbench) -> dict[str, Any]:
    """UINT8 images, made float with channels first by a kernel before the session."""
    models = {f"{side} x {side} x 3": image_means(f"image-{side}", side) for side in SIDES}
    bench.serve(list(models.values()))
    figures = {}
    for name, model in models.items():
        measured = bench.measure(Phase(name, (model.load,), _rate(model.load.row_bytes), 10, 3))
        latencies = {key: measured.summary[key] for key in ("rate_rps", "p50_ms", "p99_ms")}
        figures[name] = {**latencies, "cpu_us_per_request": measured.cpu_us_per_request()}
    return {"images": figures}


def _rate(row_bytes: int) -> float:
    return min(MAX_ROWS_S, MAX_BYTES_S / row_bytes)
