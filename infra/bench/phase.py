"""A phase of a benchmark: one run of the load generator, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.bench.measure import Matched, Sent
from infra.bench.processes import Sample, cpu_percent, used_s
from infra.bench.template import Load
from infra.bench.timeline import Mask, counts, of_loads, percentiles, scheduled_between, timeline

SUMMED = (
    "sent",
    "ok",
    "error",
    "rejected",
    "expired",
    "unacknowledged",
    "missing",
    "duplicated",
    "reaped",
    "misplaced",
)
"""Counts that add up over the phases of a run."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A load: ``rate`` per second for ``warmup_s`` and then ``seconds``, or ``steps`` of (rate, seconds) instead.

    ``timeout_ms``: the requests' budget, 0 = the stack's default. ``drain_s``: how long results are waited for.
    """

    name: str
    loads: tuple[Load, ...]
    rate: float = 0.0
    seconds: float = 0.0
    warmup_s: float = 5.0
    steps: tuple[tuple[float, float], ...] = ()
    timeout_ms: int = 0
    drain_s: float = 60.0

    @property
    def total_s(self) -> float:
        """How long it sends."""
        return sum(seconds for _, seconds in self.steps) if self.steps else self.warmup_s + self.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """What a phase showed: the generator's summary and columns, and looks at all processes about every second.

    ``begun_s``: when it began to send, on the clock of the looks (monotonic seconds).
    """

    phase: Phase
    summary: Mapping[str, Any]
    sent: Sent
    matched: Matched
    looks: Sequence[Sample]
    begun_s: float

    @property
    def after_warmup(self) -> Mask:
        """Requests scheduled after the warm-up."""
        return scheduled_between(self.sent, self.phase.warmup_s, float("inf"))

    def latency(self, mask: Mask) -> dict[str, float | None]:
        """Latency of the marked requests that ended OK."""
        return percentiles(self.matched.latency_us[mask & (self.matched.status == 1)])

    def of(self, *models: str) -> dict[str, Any]:
        """Counts and latency of some models after the warm-up."""
        return self.by_load(*(number for number, load in enumerate(self.phase.loads) if load.model in models))

    def by_load(self, *numbers: int) -> dict[str, Any]:
        """Counts and latency of some loads of the mix after the warm-up."""
        mask = self.after_warmup & of_loads(self.sent, numbers)
        return {**counts(self.matched, mask), **self.latency(mask)}

    def inside(self) -> Sequence[Sample]:
        """The looks in the measured stretch; all of the phase's, where fewer than two fell inside."""
        inside = [
            look for look in self.looks if self.phase.warmup_s <= look.at_s - self.begun_s <= self.phase.total_s + 0.05
        ]
        # a look by itself has no length, and nothing can be divided by it
        return inside if len(inside) >= 2 else list(self.looks)

    def frame(self) -> tuple[Sample, Sample]:
        """The looks at both ends of the measured stretch."""
        inside = self.inside()
        return inside[0], inside[-1]

    def cpu(self) -> dict[str, float]:
        """Percent of a core over the measured stretch, of each process that lived in it."""
        return cpu_percent(self.inside())

    def around(self, first_s: float, last_s: float) -> Sequence[Sample]:
        """The looks of a stretch, in seconds since it began to send, and one more on each side."""
        since = [look.at_s - self.begun_s for look in self.looks]
        first = max([at for at, s in enumerate(since) if s <= first_s], default=0)
        last = min([at for at, s in enumerate(since) if s >= last_s], default=len(since) - 1)
        return self.looks[first : last + 1]

    def cpu_us_per_request(self) -> float | None:
        """CPU time of all processes, the generator included, per request offered in the measured stretch."""
        before, after = self.frame()
        first, last = before.at_s - self.begun_s, after.at_s - self.begun_s
        offered = int(np.count_nonzero(scheduled_between(self.sent, first, last)))
        return round(sum(used_s(self.inside()).values()) / offered * 1e6, 2) if offered else None

    def last_rss_mb(self) -> dict[str, float]:
        """Memory of each process when it was seen last."""
        last: dict[str, int] = {}
        for look in self.inside():
            last |= look.rss_bytes
        return {name: round(size / 1e6, 1) for name, size in last.items()}

    def max_rss_mb(self) -> dict[str, float]:
        """The most memory that each process was seen with."""
        most: dict[str, int] = {}
        for look in self.looks:
            for name, size in look.rss_bytes.items():
                most[name] = max(size, most.get(name, 0))
        return {name: round(size / 1e6, 1) for name, size in most.items()}

    def document(self) -> dict[str, Any]:
        """The phase as it stands in a result's ``phases``."""
        before, after = self.frame()
        cpu = self.cpu()
        return {
            "name": self.phase.name,
            "rate": self.phase.rate,
            "steps": [list(step) for step in self.phase.steps],
            "seconds": self.phase.seconds,
            "warmup_s": self.phase.warmup_s,
            "models": len({load.model for load in self.phase.loads}),
            **{name: self.summary[name] for name in SUMMED},
            **{name: self.summary[name] for name in ("rate_rps", "mean_ms", "p50_ms", "p99_ms", "max_ms")},
            "late_start_p99_ms": self.summary["late_start_p99_ms"],
            "cpu_percent": cpu,
            "cpu_percent_total": round(sum(cpu.values()), 1),
            "cpu_us_per_request": self.cpu_us_per_request(),
            "cpu_over_s": round(after.at_s - before.at_s, 2),
            "max_rss_mb": self.max_rss_mb(),
            "timeline": timeline(self.sent, self.matched),
        }
