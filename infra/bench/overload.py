"""More than can be carried, and sudden changes: the scenarios ``overload`` and ``step``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from infra.bench.capacity import LIMIT_MS, knee_of, warm
from infra.bench.models import mlps, slow
from infra.bench.phase import Measured, Phase
from infra.bench.timeline import REJECTED, counts, percentiles, scheduled_between, settled_s
from infra.bench.workbench import Workbench
from infra.settings import StartError

ROW_MS: Final = 3.0
SLO_MS: Final = 1_000.0
"""Budget of a request in ``overload``, and the p99 that counts as recovered."""
BEFORE_S: Final = 8.0
OVER_S: Final = 20.0
AFTER_S: Final = 15.0
FACTOR: Final = 1.5
BASE_RPS: Final = 1_850.0
STEP_S: Final = 12.0


def overload(bench: Workbench) -> dict[str, Any]:
    """Offer 150 % of the capacity of an executor-bound model that was measured just before."""
    model = slow("slow-row", ROW_MS)
    bench.serve([model])
    knee, curve = knee_of(
        bench, "capacity", (model.load,), 0.6 * 1000 / ROW_MS, limit_ms=SLO_MS / 2, timeout_ms=int(SLO_MS)
    )
    if knee is None:
        raise StartError("No rate of the slow model was carried, so there is no capacity to exceed.", exit_code=1)
    # More than the knee may have been answered in time beyond it; then that is the capacity to exceed.
    rate = max(knee, *(measured.summary["rate_rps"] for measured in bench.phases))
    steps = ((0.5 * rate, BEFORE_S), (FACTOR * rate, OVER_S), (0.5 * rate, AFTER_S))
    phase = Phase("overload", (model.load,), warmup_s=0.0, steps=steps, timeout_ms=int(SLO_MS))
    measured = bench.measure(phase)
    return {"capacity_rps": round(rate, 1), "row_ms": ROW_MS, "curves": {"capacity": curve}, **judged(measured, rate)}


def judged(measured: Measured, rate: float) -> dict[str, Any]:
    """Goodput against capacity, how soon refusals were answered, and the time to recover after the overload."""
    sent, matched = measured.sent, measured.matched
    over = scheduled_between(sent, BEFORE_S, BEFORE_S + OVER_S)
    found = counts(matched, over)
    refused = percentiles(matched.latency_us[over & (matched.status == REJECTED)])
    done = sent.scheduled_us + matched.latency_us
    start_us = (sent.scheduled_us[0] if len(sent.scheduled_us) else 0) + BEFORE_S * 1e6
    within = (matched.status == 1) & (done >= start_us) & (done < start_us + OVER_S * 1e6)
    end_s = BEFORE_S + OVER_S
    return {
        "goodput_ratio": round(int(np.count_nonzero(within)) / OVER_S / rate, 3),
        "during": {**found, **measured.latency(over)},
        "refusal_p50_ms": refused["p50_ms"],
        "refusal_p99_ms": refused["p99_ms"],
        "refusal_max_ms": refused["max_ms"],
        "recovery_s": settled_s(sent, matched, end_s, end_s + AFTER_S, SLO_MS),
        "max_rss_mb": measured.max_rss_mb(),
    }


def step(bench: Workbench) -> dict[str, Any]:
    """1,850 a second, then 90 % of the capacity found just before, then 1,850 again."""
    models = mlps(12)
    bench.serve(models)
    loads = tuple(model.load for model in models)
    warm(bench, loads)
    rate, curve = knee_of(bench, "capacity", loads, BASE_RPS * 2)
    if rate is None:
        raise StartError("No rate was carried, so there is nothing to step up to.", exit_code=1)
    steps = ((BASE_RPS, STEP_S), (0.9 * rate, STEP_S), (BASE_RPS, STEP_S))
    measured = bench.measure(Phase("step", loads, warmup_s=0.0, steps=steps))
    settled = {
        name: settled_s(measured.sent, measured.matched, first, first + STEP_S, LIMIT_MS)
        for name, first in (("up_settled_s", STEP_S), ("down_settled_s", 2 * STEP_S))
    }
    return {"capacity_rps": round(rate, 1), "curves": {"capacity": curve}, **settled}
