"""Two phases on one stack, and a ratio between them: growth, priority, isolation, garbage, cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from infra.bench.models import mlps, slow
from infra.bench.phase import Phase
from infra.bench.routed import count_routed_rows, routed_ends
from infra.bench.workbench import Workbench

GROWTH_RPS: Final = 1_500.0
FLOODED_MS: Final = 3.0
SLOW_MS: Final = 80.0
SLOW_SHARE: Final = 0.4
FAST_RPS: Final = 1_000.0
GARBAGE_RPS: Final = 2_000.0
GARBAGE_SHARE: Final = 0.05
CACHE_RPS: Final = 1_500.0


def growth(bench: Workbench) -> dict[str, Any]:
    """The same total rate over twelve models and over a hundred: ``cpu_ratio`` of CPU time per request."""
    few = mlps(12)
    bench.serve(few)
    first = bench.measure(Phase("12 models", tuple(model.load for model in few), GROWTH_RPS, 25, 10))
    more = mlps(88, first=12)
    bench.serve(more)
    second = bench.measure(Phase("100 models", tuple(model.load for model in (*few, *more)), GROWTH_RPS, 25, 10))
    before, after = first.cpu_us_per_request(), second.cpu_us_per_request()
    return {"cpu_us_12": before, "cpu_us_100": after, "cpu_ratio": _ratio(after, before)}


def priority(bench: Workbench) -> dict[str, Any]:
    """Requests of priority 0 alone, then beside a flood of priority 9 that the executor cannot carry: ``p99_ratio``."""
    model = slow("flooded", FLOODED_MS)
    bench.serve([model])
    full = 1000 / FLOODED_MS
    urgent = replace(model.load, priority=0, weight=0.2)
    flood = replace(model.load, priority=9, weight=1.5)
    alone = bench.measure(Phase("priority 0 alone", (urgent,), 0.2 * full, 20, timeout_ms=10_000))
    both = bench.measure(Phase("flood at priority 9", (urgent, flood), 1.7 * full, 20, timeout_ms=10_000))
    before, after = alone.by_load(0), both.by_load(0)
    return {
        "alone": before,
        "flooded": after,
        "flood": both.by_load(1),
        "p99_ratio": _ratio(after["p99_ms"], before["p99_ms"]),
    }


def isolation(bench: Workbench) -> dict[str, Any]:
    """Eleven fast models alone, then beside one of 80 ms that needs 40 % of a core: ``p99_ratio`` of the fast ones."""
    fast, heavy = mlps(11), slow("slow-80ms", SLOW_MS)
    bench.serve((*fast, heavy))
    rate = SLOW_SHARE * 1000 / SLOW_MS
    loads = tuple(replace(model.load, weight=FAST_RPS / 11) for model in fast)
    names = [load.model for load in loads]
    alone = bench.measure(Phase("fast models alone", loads, FAST_RPS, 25, 10)).of(*names)
    mixed = bench.measure(
        Phase("beside a slow model", (*loads, replace(heavy.load, weight=rate)), FAST_RPS + rate, 25, 10)
    )
    beside = mixed.of(*names)
    return {
        "alone": alone,
        "beside": beside,
        "slow": mixed.of(heavy.load.model),
        "slow_rps": rate,
        "p99_ratio": _ratio(beside["p99_ms"], alone["p99_ms"]),
    }


def garbage(bench: Workbench) -> dict[str, Any]:
    """Twelve models alone, then with a twentieth of all records unreadable: ``p99_ratio`` of the good requests."""
    models = mlps(12)
    bench.serve(models)
    good = tuple(model.load for model in models)
    bad = replace(good[0], weight=GARBAGE_SHARE / (1 - GARBAGE_SHARE) * len(good), garbage=True)
    alone = bench.measure(Phase("good requests alone", good, GARBAGE_RPS, 25, 15)).by_load(*range(len(good)))
    rate = GARBAGE_RPS / (1 - GARBAGE_SHARE)
    mixed = bench.measure(Phase("with garbage", (*good, bad), rate, 25, 5))
    beside = mixed.by_load(*range(len(good)))
    return {
        "alone": alone,
        "beside": beside,
        "garbage": mixed.by_load(len(good)),
        "p99_ratio": _ratio(beside["p99_ms"], alone["p99_ms"]),
    }


def cache(bench: Workbench) -> dict[str, Any]:
    """All rows different and nothing cached, then half of them repeated and answers cached: ``executor_rows_ratio``.

    Of the rows that went to executors, counted on ``inference.routed``, which holds what executors are given to do.
    """
    models = mlps(12)
    bench.serve(models)
    plain = tuple(model.load for model in models)
    phases, rows = {}, {}
    for name, repeats in (("no repeats", 0.0), ("half repeated", 0.5)):
        if repeats:
            bench.cache_answers(models)
        ends = routed_ends(bench.settings.bootstrap)
        loads = tuple(replace(load, repeats=repeats) for load in plain)
        phases[name] = bench.measure(Phase(name, loads, CACHE_RPS, 20, 5))
        rows[name] = count_routed_rows(bench.settings.bootstrap, ends) / phases[name].summary["sent"]
    first, second = phases.values()
    return {
        "executor_rows_per_request": {name: round(share, 4) for name, share in rows.items()},
        "executor_rows_ratio": _ratio(rows["half repeated"], rows["no repeats"]),
        "rate_ratio": _ratio(second.summary["rate_rps"], first.summary["rate_rps"]),
        "cpu_ratio": _ratio(second.cpu_us_per_request(), first.cpu_us_per_request()),
    }


def _ratio(value: float | None, base: float | None) -> float | None:
    return round(value / base, 3) if value is not None and base else None
