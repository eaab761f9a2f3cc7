"""What an edge refused because executors would be too late with it (``overloaded``), per model and second.

A Router never sees such requests, so to the Scaler the load would look like what is carried already. A client that asks
again is counted again. Told like a Router's load, as one of ``source`` edge: while there is some, and once as zero.
"""

from __future__ import annotations

from typing import Final

from schemas.telemetry import RouterLoad

TOPIC: Final = "control.load"
EDGE: Final = "edge"


class RefusedLoad:
    """Counts of one process; ``now_us``: when the first window begins."""

    def __init__(self, now_us: int) -> None:
        self._since_us = now_us
        self._counts: dict[str, list[int]] = {}
        self._told: set[str] = set()

    def add(self, model: str, num_items: int) -> None:
        """Count a refused request."""
        count = self._counts.setdefault(model, [0, 0])
        count[0] += 1
        count[1] += num_items

    def close(self, instance: int, now_us: int) -> list[tuple[str, RouterLoad]]:
        """Topic and record of what is to be told of the window that ends ``now_us``, by the models' names."""
        counts, self._counts = self._counts, {}
        seconds, self._since_us = max(now_us - self._since_us, 1) / 1e6, now_us
        told, self._told = sorted(counts.keys() | self._told), set(counts)
        found: list[tuple[str, RouterLoad]] = []
        for model in told:
            rows, items = (round(count / seconds, 3) for count in counts.get(model, (0, 0)))
            found.append((TOPIC, RouterLoad(model, 0.0, 0, now_us, instance, items, rows, EDGE)))
        return found
