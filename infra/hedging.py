"""Composition of hedging in the Router's process: who hears of executed frames, and what is told of the copies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from agents.hedge import hedged_models
from agents.route import home_lane
from schemas.telemetry import ModelWindow, Telemetry
from streams.codec import Codec
from streams.columns import HEDGE
from streams.connection import Connection
from streams.executed_news import ExecutedNews
from streams.frame_effects import SendFrame
from streams.interpreter import MemorySource
from streams.lane_class import lanes_beside
from streams.memory_view import plan
from streams.registry.schema_watch import SchemaWatch
from streams.shadow_view import shadows
from streams.takeover import Takeover
from streams.topics import full_name

log = logging.getLogger(__name__)

ADMITTED: Final = "inference.admitted"
STAGE: Final = "hedge"


class HedgeWindow:
    """Rows that this process sent a copy of since the last window, by model version."""

    def __init__(self, memory: MemorySource) -> None:
        self._memory = memory
        self._counts: dict[tuple[str, str], int] = {}
        self._num_frames = 0
        self._since_us = time.time_ns() // 1000

    def add(self, sent: SendFrame) -> None:
        """Count a frame that was sent, if it is one of copies."""
        if HEDGE not in sent.frame.roles:
            return
        self._num_frames += 1
        for segment in sent.frame.segments:
            version = (segment.model, segment.version)
            self._counts[version] = self._counts.get(version, 0) + segment.num_rows

    def close(self, instance: int) -> Telemetry | None:
        """The window's record, as one of a stage of its own; a new window begins.

        None while no plan hedges; while one does, also windows without copies are told, for they make the rate.
        """
        since_us, now_us = self._since_us, time.time_ns() // 1000
        counts, num_frames = self._counts, self._num_frames
        self._counts, self._num_frames, self._since_us = {}, 0, now_us
        if not (counts or hedged_models(self._memory.view)):
            return None
        models = tuple(ModelWindow(*version, num, 0, 0, 0, 0, 0, 0) for version, num in sorted(counts.items()))
        return Telemetry(STAGE, instance, since_us, now_us - since_us, num_frames, 0, models)


def router_news(
    connection: Connection,
    codec: Codec,
    schemas: SchemaWatch | None,
    takeover: Takeover,
    memory: MemorySource,
    num_lanes: int,
    num_slow: int,
) -> ExecutedNews:
    """What tells the runs of admitted frames which rows are answered, while a plan in memory hedges or shadows."""
    return ExecutedNews(
        connection,
        codec,
        schemas,
        lambda: [held for held in takeover.held.values() if held.topic == full_name(ADMITTED)],
        wanted(memory, num_lanes, num_slow),
    )


def wanted(memory: MemorySource, num_lanes: int, num_slow: int) -> Callable[[], bool]:
    """Whether some model is hedged or shadowed; the log hears once of each for whose rows there is no second lane."""
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
        return bool(hedged or shadows(view))

    return some
