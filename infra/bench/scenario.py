"""Benchmark scenarios as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.bench.models import DIMS
from infra.bench.template import Load


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests of one row (1 KiB, FP32) over ``num_models`` MLPs, ``rate`` a second for ``seconds`` after a warm-up.

    ``max_mean_ms`` and ``max_p99_ms`` are what a run should stay under on two cores; None = no target.
    """

    name: str
    about: str
    num_models: int
    rate: float
    seconds: float
    warmup_s: float
    max_mean_ms: float | None = None
    max_p99_ms: float | None = None

    @property
    def loads(self) -> tuple[Load, ...]:
        """The mix: every model with the same share."""
        return tuple(Load(f"bench-{number:02d}", item_shape=DIMS[:1]) for number in range(self.num_models))


_TABLE: Final = (
    Scenario("smoke", "one model, a short look", num_models=1, rate=2_000, seconds=15, warmup_s=5),
    Scenario(
        "headline",
        "twelve models, one request per record",
        num_models=12,
        rate=1_850,
        seconds=60,
        warmup_s=10,
        max_mean_ms=47,
        max_p99_ms=100,
    ),
)

SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in _TABLE}
