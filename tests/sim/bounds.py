"""Bounds and pauses of the real code, lowered so far that simulated worlds reach them: module, name, value."""

from __future__ import annotations

from typing import Any, Final

BOUNDS: Final[dict[str, tuple[str, Any]]] = {
    "streams.run_window": ("WINDOW", 12),
    "streams.edge.edge": ("MAX_IN_FLIGHT", 12),
    "executors.worker": ("MAX_QUEUED_ITEMS", 40),
    "executors.load_report": ("INTERVAL_S", 5.0),
    "streams.edge.forecast": ("FORGET_US", 60_000_000),
    "streams.edge.service": ("FORGET_US", 60_000_000),
    "agents.rollback": ("COOLDOWN_US", 5_000_000),
}
