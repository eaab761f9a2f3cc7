"""A workbench without a stack: phases are carried up to a capacity, and slower beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from infra.bench.measure import Matched, Sent, summarise
from infra.bench.models import Model
from infra.bench.phase import Measured, Phase
from infra.bench.processes import Sample
from infra.bench.schedule import Schedule
from infra.bench.workbench import Workbench
from infra.settings import load_settings


def measured(phase: Phase, latency_ms: Any, status: Any = 1) -> Measured:
    """A phase in which request ``n`` had ``latency_ms[n]`` (or the one given) and ended with ``status``.

    Every process but the generator used 10 % of a core, the generator 5 %.
    """
    schedule = Schedule.of(phase.steps or ((phase.rate, phase.total_s),))
    size = schedule.size
    times = 1_000_000 + schedule.times_us(size)
    numbers = np.arange(size, dtype=np.int64)
    zeros = np.zeros(size, np.int64)
    sent = Sent(times, times + 5, zeros, numbers, numbers % max(len(phase.loads), 1))
    latency = (np.zeros(size) + latency_ms * 1000).astype(np.int64)
    matched = Matched(latency, zeros + status, zeros + 1, zeros, 0)
    looks = [
        Sample(float(second), {"edge-0": 0.1 * second, "generator": 0.05 * second}, {"edge-0": 50_000_000})
        for second in range(int(phase.total_s) + 1)
    ]
    summary = asdict(summarise(sent, matched, warmup_us=int(phase.warmup_s * 1e6)))
    return Measured(phase, summary, sent, matched, looks, 0.0)


class FakeBench(Workbench):
    """Latency is 5 ms up to ``capacity`` requests a second, and 500 ms above; what was served is in ``served``."""

    def __init__(self, capacity: float = 1e9) -> None:
        super().__init__(load_settings(), Console(stderr=True, quiet=True))
        self.capacity = capacity
        self.served: list[str] = []
        self.cached: list[str] = []

    def serve(self, models: Sequence[Model]) -> None:
        self.served += [model.load.model for model in models]

    def cache_answers(self, models: Sequence[Model]) -> None:
        assert [model.load.model for model in models] == self.served
        self.cached += self.served
        assert len(self.phases) == 1

    def measure(self, phase: Phase) -> Measured:
        rates = np.concatenate(
            [np.full(int(rate * seconds), rate) for rate, seconds in phase.steps or ((phase.rate, phase.total_s),)]
        )
        self.phases.append(measured(phase, np.where(rates <= self.capacity, 5.0, 500.0)))
        return self.phases[-1]
