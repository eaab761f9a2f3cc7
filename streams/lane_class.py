"""Fast and slow lanes: partitions of ``inference.routed``, the last ones are for slow models.

A plan names a lane, or a class (``schemas.plan``): the lane is then a hash of the model's name among the lanes of the
class, so that a model's batches stay full. Where there is no slow lane, slow models share the fast ones.

Where a supervisor has noted how many executors of a class are ready (``replicas/<pool>`` in memory), as many lanes of
the class are in use, the first ones: executors share lanes round robin, so each reads one of them
(``executors/lanes.py``). A model's frames then go to all lanes in use in turn (``lane_of_frame``), or one model could
never have more than one executor. The other lanes are read all the same, and those of ordered models' keys are chosen
among all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

from schemas.plan import SLOW

POOL: Final = "executors"
"""Name of the pool of fast executors in memory, in scale actions and in their confirmations."""
SLOW_POOL: Final = "executors-slow"
"""Name of the pool of slow executors."""
POOLS: Final = (POOL, SLOW_POOL)
_GOLDEN: Final = 2_654_435_769
"""2^32 over the golden ratio: its multiples modulo 2^32 are spread evenly, those of every second or third as well."""
_WORD: Final = (1 << 32) - 1


def executor_group(*, slow: bool) -> str:
    """Consumer group of the executors of a class."""
    return "isos-executor-slow" if slow else "isos-executor"


def lanes_of(num_lanes: int, num_slow: int, *, slow: bool) -> range:
    """The lanes of a class, of ``num_lanes`` in all; at least one lane is fast."""
    edge = max(1, num_lanes - num_slow) if num_lanes else 0
    return range(edge, num_lanes) if slow else range(edge)


def lane_for(model: str, planned: int, num_lanes: int, num_slow: int) -> int:
    """The lane of a model by its plan's ``lane``: that lane, or a hash (CRC-32) among those of the class."""
    if planned >= 0:
        return planned % num_lanes
    lanes = lanes_of(num_lanes, num_slow, slow=planned == SLOW) or lanes_of(num_lanes, num_slow, slow=False)
    return lanes[zlib.crc32(model.encode()) % len(lanes)]


def pool_of(planned: int, num_lanes: int, num_slow: int) -> str:
    """The pool that serves a plan's ``lane``: the slow one's where there is a slow lane and the plan wants it."""
    return SLOW_POOL if planned == SLOW and lanes_of(num_lanes, num_slow, slow=True) else POOL


def lanes_in_use(model: str, planned: int, num_lanes: int, num_slow: int, replicas: int) -> tuple[int, ...]:
    """The lanes of a model by its plan's ``lane`` where so many executors of its pool are ready: its home, then others.

    With none ready it is one lane, where rows wait for the next one.
    """
    if planned >= 0:
        return (lane_for(model, planned, num_lanes, num_slow),)
    slow = pool_of(planned, num_lanes, num_slow) == SLOW_POOL
    lanes = lanes_of(num_lanes, num_slow, slow=slow)[: max(1, replicas)]
    at = zlib.crc32(model.encode()) % len(lanes)
    return (*lanes[at:], *lanes[:at])


def lane_of_frame(lanes: Sequence[Any], frame_id: int) -> int:
    """The place among ``lanes`` of a frame: frames that follow each other, or every second or third, take turns."""
    return (frame_id * _GOLDEN & _WORD) * len(lanes) >> 32


def lanes_beside(lane: int, num_lanes: int, num_slow: int, replicas: int | None = None) -> tuple[int, ...]:
    """The other lanes of a lane's class that are in use, the next one first; ``replicas`` None: all are."""
    for slow in (False, True):
        lanes = lanes_of(num_lanes, num_slow, slow=slow)
        if lane in lanes:
            at = lanes.index(lane)
            others = (*lanes[at + 1 :], *lanes[:at])
            if slow or replicas is None:
                return others
            return tuple([each for each in others if each < max(1, replicas)])
    return ()
