"""The pools of executors of a stack: their names, the instances that are theirs, and how many there may be.

Fast executors have the instances from 0 on, slow ones those behind all fast ones that scaling may start: the instance
says the pool, and with it the lanes, for every process that knows the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.settings import Settings
from streams.lane_class import POOL, SLOW_POOL

EXECUTOR: Final = "executor-"


@dataclass(frozen=True, slots=True)
class Pool:
    """Executors that read the same lanes. ``first``: their first instance; ``at_start`` and ``most`` of them."""

    name: str
    first: int
    at_start: int
    most: int

    def names(self, count: int) -> tuple[str, ...]:
        """Names of the first so many executors; the highest are ended first."""
        return executor_names(count, self.first)


def executor_names(count: int, first: int = 0) -> tuple[str, ...]:
    """Names of so many executors, from an instance on."""
    return tuple(f"{EXECUTOR}{first + number}" for number in range(count))


FAST: Final = Pool(POOL, 0, 0, 0)
"""The fast pool where its size is of no account."""


def pools(settings: Settings) -> tuple[Pool, ...]:
    """The fast pool, and the slow one where there are slow lanes."""
    fast = Pool(POOL, 0, settings.executors, settings.most_executors)
    if not settings.num_slow_lanes:
        return (fast,)
    return fast, Pool(SLOW_POOL, settings.most_executors, settings.slow_executors, settings.num_slow_lanes)


def pool_named(settings: Settings, name: str) -> Pool:
    """The pool of a name; one that this stack does not have has no executors."""
    return next((pool for pool in pools(settings) if pool.name == name), Pool(name, settings.most_executors, 0, 0))
