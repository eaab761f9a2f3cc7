"""Benchmark scenarios by name: what they do, and what should come out on two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from infra.bench.capacity import capacity
from infra.bench.fixed import headline, idle, images, payload, smoke, tenfold
from infra.bench.overload import overload, step
from infra.bench.ratios import cache, garbage, growth, isolation, priority
from infra.bench.scaling import scaling
from infra.bench.workbench import Workbench

Run = Callable[[Workbench], dict[str, Any]]
"""Serves models, measures phases, and gives what the result adds to the common keys."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure of the result should be on two cores, broker, Redis and generator included."""

    key: str
    limit: float
    sense: Literal["at most", "at least"] = "at most"

    def met(self, value: float | None) -> bool:
        """Tell whether a figure is within the limit; none is not."""
        if value is None:
            return False
        return value <= self.limit if self.sense == "at most" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Scenario:
    """``all_ok``: a request that does not end OK makes the run invalid; refusals are part of what others measure.

    ``key``: the figure that repeated runs are ordered by. ``needs``: settings that its stack has, if nobody set them.
    ``params``: names of the numbers that it can be given.
    """

    name: str
    about: str
    run: Run
    targets: tuple[Target, ...] = ()
    all_ok: bool = True
    key: str = "p99_ms"
    broker_jit: Literal["quick", "steady"] = "steady"
    needs: tuple[tuple[str, int], ...] = ()
    params: tuple[str, ...] = ()


_TABLE: Final = (
    Scenario("smoke", "one model at 2,000/s, a short look", smoke, broker_jit="quick"),
    Scenario(
        "headline", "twelve models at 1,850/s for 60 s", headline, (Target("mean_ms", 20), Target("p99_ms", 47)),
    ),
    Scenario(
        "tenfold", "twelve models at 18,500/s for 30 s", tenfold, (Target("mean_ms", 47), Target("p99_ms", 100)),
        all_ok=False,
    ),
    Scenario(
        "capacity", "the highest rate with p99 under 100 ms, for twelve models and for one", capacity,
        (Target("capacity_12_rps", 12_000, "at least"), Target("capacity_1_rps", 15_000, "at least")),
        all_ok=False, key="capacity_rps",
    ),
    Scenario(
        "step", "1,850/s, 90 % of capacity, 1,850/s", step,
        (Target("up_settled_s", 3), Target("down_settled_s", 3)), all_ok=False, key="up_settled_s",
    ),
    Scenario(
        "overload", "150 % of an executor-bound model's capacity", overload,
        (Target("goodput_ratio", 0.9, "at least"), Target("refusal_p99_ms", 100), Target("recovery_s", 5)),
        all_ok=False, key="goodput_ratio",
    ),
    Scenario(
        "growth", "a hundred models against twelve at the same total rate", growth, (Target("cpu_ratio", 1.5),),
        key="cpu_ratio",
    ),
    Scenario("payload", "rows of 1 KiB to 256 KiB, and of 2 MiB as blobs", payload),
    Scenario("images", "UINT8 images and the kernels before the session", images),
    Scenario(
        "priority", "priority 0 beside a flood of priority 9", priority, (Target("p99_ratio", 1.5),),
        all_ok=False, key="p99_ratio",
    ),
    Scenario(
        "isolation", "eleven fast models beside one of 80 ms", isolation, (Target("p99_ratio", 1.5),), key="p99_ratio",
    ),
    Scenario(
        "garbage", "good requests beside a twentieth of unreadable records", garbage, (Target("p99_ratio", 1.2),),
        all_ok=False, key="p99_ratio",
    ),
    Scenario(
        "cache", "half of the requests repeated", cache, (Target("executor_rows_ratio", 0.55),),
        key="executor_rows_ratio",
    ),
    Scenario(
        "scaling", "replicas under ten times the load and under a sine, of an executor-bound model", scaling,
        (Target("slo_again_s", 30), Target("num_reversals", 3)), all_ok=False, key="slo_again_s",
        needs=(("executors", 1), ("max_executors", 3), ("slow_executors", 0)), params=("row_ms", "base_rps"),
    ),
    Scenario("idle", "twelve models at 20/s", idle, (Target("p50_ms", 12),), key="p50_ms"),
)  # fmt: skip

SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in _TABLE}
