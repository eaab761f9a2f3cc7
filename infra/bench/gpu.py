"""Measure the executor's core on a device: ``python -m infra.bench.gpu``, which is ``make bench-gpu``.

It needs Python and wheels only: no Kafka, no Redis. Without a GPU it says so and ends with 1. Times are those that
pass on the wall, best of several rounds, for the headline's MLP:

- ``bare``: ONNX Runtime's ``session.run`` on arrays of the host;
- ``bound``: buffers on the device per bucket; ``graph``: the same, captured as a CUDA graph (GPU only);
- ``session``: what executors call, with its checks;
- ``core``: routed frames in, executed frames out; ``core_ratio`` is bare / core.

``mixed`` are batches of random sizes for a second: busy, useful and fill as in ``executors/utilisation.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from executors.core_bench import measure_core
from executors.engine import BoundRun
from executors.provider import Device, DeviceError, create, create_best, require
from executors.runtime import CPU
from executors.session import ModelSession
from executors.utilisation import Utilisation
from infra.bench.models import DIMS, bench_model

BATCHES: Final = (1, 2, 8, 64, 128)
ROUNDS: Final = 7
ROUND_S: Final = 0.05
MIXED_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured: device, seconds of a round and of the mixed batches, batch sizes."""

    device: Device = "cuda"
    round_s: float = ROUND_S
    mixed_s: float = MIXED_S
    batches: tuple[int, ...] = BATCHES


def measure(bench: Bench) -> dict[str, Any]:
    """All figures, times in microseconds per batch. Raises DeviceError without the device."""
    provider = require(bench.device)
    blob, facts = bench_model("core", 0)
    session = ModelSession.load(blob, facts, bench.device)
    plain = create(blob, bench.device)[0]
    place = "cpu" if provider == CPU else "cuda"
    bound = BoundRun(plain, place, session.buckets())
    captured, _, graphs = create_best(blob, bench.device)
    graph = BoundRun(captured, place, session.buckets(), graphs=True) if graphs else None
    rows = []
    for size in bench.batches:
        feed = {"x": np.random.default_rng(size).standard_normal((size, DIMS[0])).astype(np.float32)}
        sides: dict[str, Callable[[], Any]] = {
            "bare": partial(plain.run, None, feed),
            "bound": partial(bound.run, feed, size),
            "session": partial(session.run, feed),
        }
        if graph is not None:
            sides["graph"] = partial(graph.run, feed, size)
        row: dict[str, Any] = {"batch": size, **_best_us(sides, bench.round_s)}
        core = measure_core([session], size, repeats=ROUNDS)
        rows.append({**row, "core": round(core.core_us, 1), "core_ratio": round(core.ratio, 3)})
    return {
        "device": bench.device,
        "execution_provider": session.provider,
        "graphs": graphs,
        "profile": {"fixed_us": session.profile.fixed_us, "per_item_us": session.profile.per_item_us},
        "batches": rows,
        "mixed": mixed(session, bench.mixed_s),
    }


def _best_us(sides: Mapping[str, Callable[[], Any]], round_s: float) -> dict[str, float]:
    """Best mean time of a round per side, in turn."""
    best = dict.fromkeys(sides, float("inf"))
    for side in sides.values():
        side()
    for _ in range(ROUNDS):
        for name, side in sides.items():
            start = time.perf_counter()
            count = 0
            while (spent := time.perf_counter() - start) < round_s or not count:
                side()
                count += 1
            best[name] = min(best[name], spent / count * 1e6)
    return {name: round(spent_us, 1) for name, spent_us in best.items()}


def mixed(session: ModelSession, seconds: float) -> dict[str, float]:
    """Batches of random sizes, one behind the other: rows per second and what of the time was useful."""
    random = np.random.default_rng(1)
    inputs = random.standard_normal((session.model.max_batch_size, DIMS[0])).astype(np.float32)
    window = Utilisation(time.perf_counter() * 1e6)
    start, num_rows = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - start) < seconds or not num_rows:
        size = int(random.integers(1, len(inputs) + 1))
        begun = time.perf_counter()
        session.run({"x": inputs[:size]})
        window.observe(size, (time.perf_counter() - begun) * 1e6, session.profile)
        num_rows += size
    shares = window.close(time.perf_counter() * 1e6)
    return {
        "rows_per_s": round(num_rows / spent_s),
        "busy": round(shares.busy, 3),
        "useful": round(shares.useful, 3),
        "batch_fill": round(shares.fill, 3),
    }


def table(document: Mapping[str, Any]) -> str:
    """The figures for people."""
    names = list(document["batches"][0])
    lines = ["  ".join(f"{name:>10}" for name in names)]
    lines += ["  ".join(f"{row[name]:>10}" for name in names) for row in document["batches"]]
    told = ", ".join(f"{name} {value}" for name, value in document["mixed"].items())
    graphs = "CUDA graphs" if document["graphs"] else "no CUDA graphs"
    head = f"{document['execution_provider']} (device {document['device']}), {graphs}; microseconds per batch"
    return "\n".join([head, *lines, f"mixed: {told}"])


def main(arguments: list[str]) -> int:
    """Print the figures; exit status 1 and a sentence where the device is not here."""
    parser = argparse.ArgumentParser(prog="python -m infra.bench.gpu", description="Measure the executor's core.")
    parser.add_argument("--device", choices=("cuda", "auto", "cpu"), default="cuda")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    given = parser.parse_args(arguments)
    try:
        document = measure(Bench(given.device))
    except DeviceError as error:
        print(f"no GPU: {error}.", file=sys.stderr)
        return error.exit_code
    print(json.dumps(document) if given.output == "json" else table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
