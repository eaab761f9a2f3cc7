"""Fast and slow lanes: partitions of ``inference.routed``, the last ones are for slow models.

A plan names a lane, or a class (``schemas.plan``): the lane is then a hash of the model's name among the lanes of the
class, so that a model's batches stay full. Where there is no slow lane, slow models share the fast ones.
"""

from __future__ import annotations

import zlib

from schemas.plan import SLOW


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


def lanes_beside(lane: int, num_lanes: int, num_slow: int) -> tuple[int, ...]:
    """The other lanes of a lane's class, the next one first."""
    for slow in (False, True):
        lanes = lanes_of(num_lanes, num_slow, slow=slow)
        if lane in lanes:
            at = lanes.index(lane)
            return (*lanes[at + 1 :], *lanes[:at])
    return ()
