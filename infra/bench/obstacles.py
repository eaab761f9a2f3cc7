"""What stood between a load and its goal, stretch by stretch: refusal codes, queues, processors. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from infra.bench.phase import Measured
from infra.bench.processes import Sample, cpu_percent
from infra.bench.timeline import OK, scheduled_between
from schemas.load import ExecutorLoad
from schemas.result import InferenceResult

SLICE_S: Final = 5.0
EXECUTOR: Final = "executor-"


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that did not end OK: when it was received (microseconds since the epoch), and the code."""

    received_us: int
    code: str


def ended(results: Iterable[InferenceResult]) -> list[Ended]:
    """Those of some results that are no answers."""
    return [Ended(each.received_us, each.error.code) for each in results if each.error is not None]


def obstacles(
    measured: Measured, failures: Sequence[Ended], loads: Sequence[ExecutorLoad], first_s: float, last_s: float,
    cores: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each ``SLICE_S`` of a phase, in seconds since it began to send.

    ``codes``: how many ended so, by code; ``waits_ms``: the longest queue of each executor, in time of its batches;
    ``machine_percent``: how busy all ``cores`` were with whatever it was, ``processors_percent`` with the stack and the
    generator, ``executors_percent`` with executors.
    """
    begun_us = int(measured.sent.scheduled_us[0]) if len(measured.sent.scheduled_us) else 0
    rows = []
    start = first_s
    while start < last_s:
        stop = min(start + SLICE_S, last_s)
        first_us, last_us = begun_us + int(start * 1e6), begun_us + int(stop * 1e6)
        mask = scheduled_between(measured.sent, start, stop)
        latency = measured.matched.latency_us[mask & (measured.matched.status == OK)]
        looks = measured.around(start, stop)
        cpu = cpu_percent(looks)
        rows.append(
            {
                "t_s": round(start, 2),
                "offered": int(mask.sum()),
                "ok": len(latency),
                "p99_ms": round(float(np.percentile(latency, 99)) / 1e3, 1) if len(latency) else None,
                "codes": dict(Counter(each.code for each in failures if first_us <= each.received_us < last_us)),
                "waits_ms": longest_waits(loads, first_us, last_us),
                "machine_percent": _of_cores([machine_percent(looks)], cores),
                "processors_percent": _of_cores(cpu.values(), cores),
                "executors_percent": _of_cores([cpu[name] for name in cpu if name.startswith(EXECUTOR)], cores),
            }
        )
        start = stop
    return rows


def longest_waits(loads: Iterable[ExecutorLoad], first_us: int, last_us: int) -> dict[str, float]:
    """The longest queue that each executor told of, in milliseconds of its batches; what told nothing had none."""
    found: dict[str, float] = {}
    for load in loads:
        if first_us <= load.sent_us < last_us:
            work_us = sum(
                each.running_us
                + sum(each.waiting_items) * (each.per_item_us + each.fixed_us / max(1, each.max_batch_size))
                for each in load.versions
            )
            found[load.executor] = max(found.get(load.executor, 0.0), round(work_us / 1e3, 1))
    return dict(sorted(found.items()))


def sentence(row: Mapping[str, Any]) -> str:
    """A row for people."""
    codes = "".join(f", {count} {code}" for code, count in sorted(row["codes"].items()))
    waits = ", ".join(f"{name} {wait:.0f}" for name, wait in row["waits_ms"].items())
    latency = "" if row["p99_ms"] is None else f" (p99 {row['p99_ms']:.0f} ms)"
    return (
        f"{row['t_s']:6.1f} s  {row['ok']} of {row['offered']} OK{latency}{codes}; waits in ms: {waits or 'none'}; "
        f"processors busy {row['machine_percent']:.0f} %, with the stack {row['processors_percent']:.0f} %, "
        f"with its executors {row['executors_percent']:.0f} %"
    )


def settled_sentence(settled: float | None, limit_ms: float, limit_s: float) -> str:
    """Whether and when the goal was reached again after the step."""
    if settled is None:
        return f"the SLO (all OK, p99 under {limit_ms:g} ms) did not hold again in the {limit_s:g} s of the step"
    return f"the SLO (all OK, p99 under {limit_ms:g} ms) held again {settled:g} s after the step"


def machine_percent(looks: Sequence[Sample]) -> float:
    """Percent of one core that the whole machine was busy over some looks."""
    elapsed = looks[-1].at_s - looks[0].at_s if looks else 0.0
    return 100 * (looks[-1].machine_s - looks[0].machine_s) / elapsed if elapsed > 0 else 0.0


def _of_cores(percents: Iterable[float], cores: int) -> float:
    return round(sum(percents) / max(1, cores), 1)
