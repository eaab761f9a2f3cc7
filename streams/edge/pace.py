"""How often an edge makes frames: at once while it has frames left, else as its budget allows."""

from __future__ import annotations

from typing import Final

FRAMES_PER_S: Final = 100
"""Frame budget of a process: a frame costs every stage and the broker as much as some twenty rows do."""
BURST: Final = 3


class Pace:
    """Ticks of at least ``tick_s`` and ``frames`` / ``FRAMES_PER_S`` on average; after a rest ``BURST`` at once.

    A request that comes alone is not kept waiting, and under load each frame holds what came in its time.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._arrival = 0.0

    def wait_s(self, now: float, frames: int) -> float:
        """Seconds to wait after a tick that ended at ``now`` and had up to ``frames`` frames to make (GCRA)."""
        step = max(self._tick_s, frames / FRAMES_PER_S)
        self._arrival = max(self._arrival, now) + step
        return max(0.0, self._arrival - (BURST - 1) * step - now)
