"""How rows fared with each model version since the last look: what a version's breaker is judged by.

A row counts each time that it is tried, wherever it goes from there. A fault is the version's own: its session failed,
its process died, or it cannot be loaded; what a client sent wrong is none. Counted by the batch, without the rows of
checks (``executors.check_rows``).
"""

from __future__ import annotations

import time
from typing import Final

from executors.profile import Version
from schemas.telemetry import ModelWindow, Telemetry

STAGE: Final = "executor"
CLIENTS: Final = frozenset({"wrong_shape"})
"""Codes of what a session refuses because of what was sent."""


class Attempts:
    """Rows tried and rows failed, by version."""

    __slots__ = ("_counts", "_since_us")

    def __init__(self) -> None:
        self._counts: dict[Version, list[int]] = {}
        self._since_us = time.time_ns() // 1000

    def passed(self, version: Version, num_rows: int) -> None:
        """Rows ran; none is nothing."""
        if not num_rows:
            return
        count = self._counts.get(version)
        if count is None:
            count = self._counts[version] = [0, 0]
        count[0] += num_rows

    def failed(self, version: Version, num_rows: int, code: str) -> None:
        """Rows did not, with ``code`` as the reason."""
        if num_rows and code not in CLIENTS:
            self._counts.setdefault(version, [0, 0])[1] += num_rows

    def close(self, instance: int, queue_depth: int) -> Telemetry | None:
        """The window's record, None where nothing was tried; a new window begins."""
        since_us, now_us = self._since_us, time.time_ns() // 1000
        counts, self._counts, self._since_us = self._counts, {}, now_us
        if not counts:
            return None
        models = tuple(
            ModelWindow(*version, passed + failed, passed, failed, 0, 0, 0, 0)
            for version, (passed, failed) in sorted(counts.items())
        )
        return Telemetry(STAGE, instance, since_us, now_us - since_us, 0, queue_depth, models)
