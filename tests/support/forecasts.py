"""Reports of executors, and what a forecast makes of them, in milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from schemas.load import ExecutorLoad, VersionLoad
from streams.edge.forecast import Forecast
from streams.edge.service import Service

T: Final = 1_700_000_000_000_000
MS: Final = 1_000


def version(model: str = "digits", waiting: tuple[int, ...] = (), **fields: Any) -> VersionLoad:
    """A version that takes 1 ms and 1 ms per item, in batches of 4."""
    return replace(VersionLoad(model, "v1.0.0", 1000.0, 1000.0, 4, False, 0.0, 0, 0, waiting), **fields)


def load(
    *versions: VersionLoad, executor: str = "executor-0", sent_us: int = T, newest_us: int = T, num_threads: int = 2
) -> ExecutorLoad:
    return ExecutorLoad(executor, sent_us, newest_us, num_threads, versions)


def forecast(*versions: VersionLoad, num_threads: int = 2) -> Forecast:
    made = Forecast()
    made.take(load(*versions, num_threads=num_threads), T)
    return made


def service(made: Forecast, model: str = "digits", pinned: str = "", now_us: int = T) -> Service:
    found = made.service(model, pinned, now_us)
    assert found is not None
    return found


def finish_ms(each: Service, priority: int = 5, ahead: int = 0, items: int = 1, now_us: int = T) -> float:
    """Milliseconds from T until one row is done."""
    finish, _ = each.finish_us(priority, np.array([ahead]), np.array([items]), now_us)
    return float(finish[0] - T) / 1000


def wait_ms(each: Service, priority: int = 5, ahead: int = 0, items: int = 1, now_us: int = T) -> float:
    """Milliseconds that one row waits, margins left out."""
    _, wait = each.finish_us(priority, np.array([ahead]), np.array([items]), now_us)
    return float(wait[0]) / 1000


def queue(*items: int) -> tuple[int, ...]:
    """Items that wait with priority 5."""
    return (0, 0, 0, 0, 0, *items)
