"""What a world is like: how often what goes wrong, drawn from its seed, so that many worlds cover many mixtures."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, Final

FOREVER_US: Final = 100_000_000_000
FAULTS: Final = (
    "crash",
    "freeze",
    "rebalance",
    "lost send",
    "duplicate",
    "marker",
    "rubbish",
    "foreign frame",
    "clock jump",
    "retention",
    "redis away",
    "redis flushed",
)
"""Faults that are picked by their weight; lag, refused calls and late outcomes happen inside the simulated broker."""


def told(drawn: Profile) -> dict[str, Any]:
    """The chances of a world in which all control agents run: much is said, and not all steps are deliveries."""
    return {"report": 0.12, "request": min(drawn.request, 0.05), "delivery": min(drawn.delivery, 0.3), "jump": 0.004}


ALONE: Final[dict[str, Any]] = {
    "alone": True,
    "request": 0.0,
    "cached": False,
    "hedged": False,
    "shadowed": False,
    "bursts": (64,),
    "lag": 0.05,
    "jump": 0.001,
    "pace_us": 8_000,
}
"""A world that is all control plane, so that its agents come far within its steps."""
FOCUSES: Final = ("", "scaling", "reviews", "roll-backs")
OF_DATA: Final = ("rubbish", "foreign frame", "retention", "redis away", "redis flushed")
"""Faults that need a data plane."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Chances per step of a request, the operator, a fault, a recovery, a delivery; else a process steps.

    ``weights``: of the faults, 0 = never. ``bursts``: callbacks that a process runs in one step. ``fetch``: most
    records of one fetch. ``lag``: chance that a fetch does not see a partition.
    ``refusal``: chance that a call to the broker fails at once.
    ``hear``: chance that a member hears of a new generation; the others go on meanwhile.
    ``warm_up``: most steps before the first request and fault, until there is a plan.
    ``max_skew_us``: how far a clock may be off.
    ``hold_us`` and ``give_up_us``: the Router's and the reaper's patience. ``bound_us``: for how long the Router trusts
    memory that it hears nothing of. ``rate_per_s``: of a tenant.
    ``blob_bytes``: above which an input goes to the blob store. ``cached``: answers of models may be cached, and inputs
    come again. ``passing``: share of requests that fail some times by themselves; ``poor``: few may be tried again.
    ``hedged``: rows that take long go to another lane too. ``shadowed``: other versions run shares of the rows, too.
    ``ordered``: a model keeps the order of its keys. ``breakers``: versions' breakers move, and they have fallbacks.
    ``canaries``: versions are given shares of rows.
    ``control``: all control agents run, not only Orchestrator and Planner. ``report``: chance that they are told of
    something. ``production``: versions are made active by approval only. ``alone``: there is no data plane, but what
    is told of one. ``focus``: what is told of most. ``pace_us``: longest step, but for those that take up to three
    seconds, with a chance of ``jump``.
    """

    request: float = 0.06
    operator: float = 0.004
    fault: float = 0.016
    recovery: float = 0.03
    delivery: float = 0.3
    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FAULTS, 1.0))
    bursts: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    fetch: int = 5
    lag: float = 0.1
    refusal: float = 0.001
    hear: float = 0.2
    warm_up: int = 0
    max_skew_us: int = 5_000_000
    hold_us: int = FOREVER_US
    give_up_us: int = FOREVER_US
    bound_us: int = FOREVER_US
    rate_per_s: float = 1e6
    blob_bytes: int = 1 << 20
    cached: bool = False
    passing: float = 0.08
    poor: bool = False
    hedged: bool = False
    ordered: bool = False
    breakers: bool = False
    canaries: bool = False
    control: bool = False
    report: float = 0.0
    production: bool = False
    jump: float = 0.01
    pace_us: int = 2_000
    alone: bool = False
    focus: str = ""
    shadowed: bool = False

    @classmethod
    def drawn(cls, rng: random.Random) -> Profile:
        """A world's own mixture: each fault is left out of two worlds in five."""
        weights = {fault: rng.choice((0.0, 0.0, 0.3, 1.0, 3.0)) for fault in FAULTS}
        if not any(weights.values()):
            weights["crash"] = 1.0
        control = rng.getstate()[1][12] % 3 == 0
        drawn = cls(
            request=rng.choice((0.02, 0.05, 0.1)),
            operator=rng.choice((0.002, 0.02)),
            fault=rng.choice((0.005, 0.015, 0.04)),
            recovery=rng.choice((0.015, 0.03, 0.06)),
            delivery=rng.choice((0.15, 0.3, 0.45)),
            weights=weights,
            bursts=rng.choice(((1,), (1, 2, 4, 8, 16, 32), (8, 16, 32), (1, 64))),
            fetch=rng.choice((1, 3, 5, 20)),
            lag=rng.choice((0.0, 0.1, 0.5)),
            refusal=rng.choice((0.0, 0.001, 0.01)),
            hear=rng.choice((0.01, 0.1, 0.5)),
            warm_up=rng.choice((0, 1_000, 1_000)),
            max_skew_us=rng.choice((0, 100_000, 5_000_000)),
            hold_us=rng.choice((2_000_000, FOREVER_US, FOREVER_US)),
            give_up_us=rng.choice((20_000_000, *[FOREVER_US] * 9)),
            rate_per_s=rng.choice((1.0, 1e6, 1e6)),
            blob_bytes=rng.choice((16, 1 << 20, 1 << 20)),
            poor=rng.getstate()[1][11] % 4 == 0,
            cached=rng.getstate()[1][7] % 3 == 0,  # drawn without a draw: the other worlds stay what they were
            hedged=rng.getstate()[1][8] % 3 == 0,
            ordered=rng.getstate()[1][9] % 3 == 0,
            breakers=rng.getstate()[1][10] % 3 == 0 or control,
            canaries=rng.getstate()[1][16] % 3 == 0 and not control,
            bound_us=4_000_000 if rng.getstate()[1][17] % 8 == 0 else FOREVER_US,
            control=control,
            shadowed=rng.getstate()[1][16] % 3 == 0,
            production=control and rng.getstate()[1][13] % 2 == 0,
        )
        if not control:
            return drawn
        focus = FOCUSES[rng.getstate()[1][15] % len(FOCUSES)]
        return replace(drawn, focus=focus, **{**told(drawn), **(ALONE if rng.getstate()[1][14] % 2 else {})})

    @classmethod
    def quiet(cls, rng: random.Random) -> Profile:
        """Nothing goes wrong."""
        return cls(fault=0.0, recovery=0.0, lag=0.0, refusal=0.0, max_skew_us=0, hold_us=cls.drawn(rng).hold_us)
