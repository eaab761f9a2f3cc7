"""The scenario ``scaling``: replicas follow a step to ten times the load and a sine, with real executor processes."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from infra.bench.models import slow
from infra.bench.obstacles import Ended, ended, obstacles, sentence, settled_sentence
from infra.bench.phase import Measured, Phase
from infra.bench.timeline import percentiles, scheduled_between, settled_s
from infra.bench.workbench import Workbench
from infra.log_reader import LogReader
from infra.scaling_control import ScalingControl
from schemas.load import ExecutorLoad
from schemas.scaling import ScaleAction, ScaleConfirmation, ScalingPolicy
from streams.codec import Codec
from streams.connection import Connection
from streams.partition_log import KafkaLog
from streams.provision import topic_partitions
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name

RESULTS: Final = "inference.results"

ROW_MS: Final = 3.0
BASE_RPS: Final = 25.0
"""Load before the step; ten times of it is more than one executor carries, and no more than two cores do."""
BEFORE_S: Final = 15.0
STEP_S: Final = 60.0
SLO_MS: Final = 500.0
"""What 99 % of the answers may take, and all are OK."""
TIMEOUT_MS: Final = 2_000
"""Budget of a request: what cannot be answered in it is refused, and no backlog is older."""
PERIOD_S: Final = 90.0
NUM_PERIODS: Final = 2
SLICE_S: Final = 3.0
SINE: Final = (0.2, 1.0)
"""Least and most load of the sine, as shares of the step's."""
POLICY: Final = ScalingPolicy("executors", 1, 3, upscale_delay_s=1, downscale_delay_s=20, cooldown_s=5, drain_s=5)


def scaling(bench: Workbench) -> dict[str, Any]:
    """Ten times a light base load at once, and two periods of a sine, of a model that executors are busy with.

    Parameters: ``row_ms``, the model's time per row, and ``base_rps``.
    """
    row_ms, base = bench.params.get("row_ms", ROW_MS), bench.params.get("base_rps", BASE_RPS)
    model = slow("slow-row", row_ms)
    bench.serve([model])
    asyncio.run(_set_policy(bench))
    step = ((base, BEFORE_S), (10 * base, STEP_S), (base, 2 * BEFORE_S))
    stepped, waved = (
        bench.measure(Phase(name, (model.load,), warmup_s=0.0, steps=steps, timeout_ms=TIMEOUT_MS))
        for name, steps in (("step", step), ("sine", sine(10 * base)))
    )
    log = asyncio.run(_log(bench))
    step_changes = changes(log.actions, log.confirmations, stepped)
    sine_changes = changes(log.actions, log.confirmations, waved)
    slo_again_s = settled_s(stepped.sent, stepped.matched, BEFORE_S, BEFORE_S + STEP_S, SLO_MS)
    cores = len(os.sched_getaffinity(0))
    why = obstacles(stepped, log.failures, log.loads, BEFORE_S, BEFORE_S + STEP_S, cores)
    for row in why:
        bench.say(sentence(row))
    bench.say(settled_sentence(slo_again_s, SLO_MS, STEP_S))
    for each in (*step_changes, *sine_changes):
        bench.say(f"{each['t_s']:7.2f} s  {each['from']} to {each['to']} in {each['took_s']} s: {each['reason']}")
    return {
        "row_ms": row_ms,
        "base_rps": base,
        "slo_ms": SLO_MS,
        "slo_again_s": slo_again_s,
        "first_replica_s": first_after(step_changes, BEFORE_S),
        "during_step": stepped.latency(scheduled_between(stepped.sent, BEFORE_S, BEFORE_S + STEP_S)),
        "obstacles": why,
        "step_changes": step_changes,
        "sine_changes": sine_changes,
        "num_sine_changes": len(sine_changes),
        "num_reversals": reversals(sine_changes),
        "sine": percentiles(waved.matched.latency_us[waved.matched.status == 1]),
    }


def sine(one: float) -> tuple[tuple[float, float], ...]:
    """Rates and seconds of the sine, which begins and ends at its least; ``one``: the step's rate."""
    low, high = SINE
    count = round(PERIOD_S / SLICE_S)
    phase = [(1 - math.cos(2 * math.pi * (at + 0.5) / count)) / 2 for at in range(count)]
    return tuple(((low + (high - low) * each) * one, SLICE_S) for each in phase * NUM_PERIODS)


def changes(
    actions: Sequence[ScaleAction], confirmations: Sequence[ScaleConfirmation], measured: Measured
) -> list[dict[str, Any]]:
    """The steps that were decided on while the phase sent: when, from and to how many, what became of it, and why."""
    begun_us = int(measured.sent.scheduled_us[0]) if len(measured.sent.scheduled_us) else 0
    ended = {each.action_id: each for each in confirmations}
    found = []
    for action in actions:
        at_s = (action.time_us - begun_us) / 1e6
        if action.decision == "hold" or not 0 <= at_s <= measured.phase.total_s:
            continue
        end = ended.get(action.action_id)
        found.append(
            {
                "t_s": round(at_s, 2),
                "from": action.current_replicas,
                "to": action.target_replicas,
                "outcome": "none" if end is None else end.outcome,
                "took_s": None if end is None else round((end.time_us - action.time_us) / 1e6, 2),
                "reason": action.reason,
            }
        )
    return found


def first_after(found: Sequence[dict[str, Any]], at_s: float) -> float | None:
    """Seconds from ``at_s`` until the first step upwards that was decided on after it was done."""
    ready = [each["t_s"] + each["took_s"] - at_s for each in found if each["t_s"] >= at_s and each["outcome"] == "done"]
    return round(min(ready), 2) if ready else None


def reversals(found: Sequence[dict[str, Any]]) -> int:
    """How often the direction changed; a period of a sine has two."""
    ups = [each["to"] > each["from"] for each in found]
    return sum(one != other for one, other in itertools.pairwise(ups))


async def _set_policy(bench: Workbench) -> None:
    async with ScalingControl(Connection(bench.settings.bootstrap)) as control:
        most = min(POLICY.max_replicas, bench.settings.most_executors)
        await control.set_policy(lambda _now: replace(POLICY, max_replicas=most))


@dataclass(frozen=True, slots=True)
class _Log:
    """What the log says of the run."""

    actions: list[ScaleAction]
    confirmations: list[ScaleConfirmation]
    loads: list[ExecutorLoad]
    failures: list[Ended]


async def _log(bench: Workbench) -> _Log:
    connection = Connection(bench.settings.bootstrap)
    reader = await LogReader.connect(connection)
    actions, confirmations, loads = [
        [each.record for each in await reader.read(topic)]
        for topic in ("control.scale-actions", "control.scale-confirmations", "control.executor-load")
    ]
    codec = Codec(await read_schema_ids(connection))
    count = (await topic_partitions(connection, [RESULTS]))[RESULTS]
    failures: list[Ended] = []
    for partition in range(count):
        records = await KafkaLog(connection).read(full_name(RESULTS), partition)
        failures += ended(codec.decode(RESULTS, record.value) for record in records)
    return _Log(actions, confirmations, loads, failures)
