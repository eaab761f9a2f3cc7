"""Composition of hedging in the Router's process: who hears of executed frames, and when anybody wants to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from agents.hedge import hedged_models
from agents.route import home_lane
from streams.codec import Codec
from streams.connection import Connection
from streams.executed_news import ExecutedNews
from streams.interpreter import MemorySource
from streams.lane_class import lanes_beside
from streams.memory_view import plan
from streams.registry.schema_watch import SchemaWatch
from streams.takeover import Takeover
from streams.topics import full_name

log = logging.getLogger(__name__)

ADMITTED: Final = "inference.admitted"


def router_news(
    connection: Connection,
    codec: Codec,
    schemas: SchemaWatch | None,
    takeover: Takeover,
    memory: MemorySource,
    num_lanes: int,
    num_slow: int,
) -> ExecutedNews:
    """What tells the runs of admitted frames which rows are answered, while some plan in memory hedges."""
    return ExecutedNews(
        connection,
        codec,
        schemas,
        lambda: [held for held in takeover.held.values() if held.topic == full_name(ADMITTED)],
        wanted(memory, num_lanes, num_slow),
    )


def wanted(memory: MemorySource, num_lanes: int, num_slow: int) -> Callable[[], bool]:
    """Whether some model is hedged; the log hears once of each for whose rows there is no second lane."""
    seen: set[str] = set()

    def some() -> bool:
        view = memory.view
        hedged = hedged_models(view)
        for model in sorted(hedged - seen):
            seen.add(model)
            effective = plan(view, model)
            if effective and not lanes_beside(home_lane(effective, num_lanes, num_slow), num_lanes, num_slow):
                log.warning(
                    "%s is to be hedged, but there is one lane for it: its rows go to no second executor", model
                )
        return bool(hedged)

    return some
