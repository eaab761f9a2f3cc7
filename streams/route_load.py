"""What a Router's process gives to lanes and ends itself, per model: counted frame by frame, told once a second.

A frame is only noted; many are counted at once, for their columns are short and each look at one has its price. A model
is told of while it has rows, and once more as zero: so whoever hears nothing of it and hears the Router knows that it
has none. Rows of checks are no load. Where a model had no others in a window, one row stands for them all: it wakes
executors that sleep, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from schemas.frame import InferenceFrame
from schemas.telemetry import RouterLoad
from streams.check_rows import checked_models, client_parts, client_rows, picked
from streams.columns import Array
from streams.frame_effects import SendFrame

TOPIC: Final = "control.load"
ROUTED: Final = "inference.routed"
MOST_NOTED: Final = 256
_OK: Final = 1

Counts = dict[str, list[int]]
"""By model: rows given to lanes, their items, rows ended with an error."""


class RouteLoad:
    """Counts of one process. ``held``: frames that wait now; ``now_us``: when the first window begins."""

    def __init__(self, instance: int, held: Callable[[], Iterable[InferenceFrame]], now_us: int) -> None:
        self._instance = instance
        self._held = held
        self._since_us = now_us
        self._counts: Counts = {}
        self._given: list[tuple[list[tuple[str, int]], bytes]] = []
        self._ended: list[tuple[list[tuple[str, int]], bytes]] = []
        self._told: set[str] = set()
        self._checked: set[str] = set()

    def add(self, sent: SendFrame) -> None:
        """Note a frame that the Router sent."""
        frame = sent.frame
        mine = client_rows(frame)
        if mine is not None:
            self._add_part(sent, mine)
            return
        segments = [(segment.model, segment.num_rows) for segment in frame.segments]
        if sent.topic == ROUTED:
            self._given.append((segments, frame.row_items))
            if len(self._given) >= MOST_NOTED:
                self._count()
        else:
            self._ended.append((segments, frame.statuses))
            if len(self._ended) >= MOST_NOTED:
                self._count()

    def _add_part(self, sent: SendFrame, mine: Array) -> None:
        """Note the rows ``mine`` (bool [n]) of a frame; the others are of checks."""
        frame = sent.frame
        parts = [(part.model, part.num_rows) for part in client_parts(frame, mine)]
        if sent.topic == ROUTED:
            self._checked |= checked_models(frame, mine)
        if not parts:
            return
        if sent.topic == ROUTED:
            self._given.append((parts, picked(frame.row_items, "<u2", mine)))
        else:
            self._ended.append((parts, picked(frame.statuses, "|u1", mine)))

    def close(self, now_us: int) -> list[tuple[str, RouterLoad]]:
        """Topic and record of what is to be told of the window that ends ``now_us``, by the models' names."""
        self._count()
        counts, self._counts = self._counts, {}
        checked, self._checked = self._checked, set()
        for model in sorted(checked):
            count = counts.setdefault(model, [0, 0, 0])
            if not count[0]:
                count[:2] = [1, 1]
        seconds, self._since_us = max(now_us - self._since_us, 1) / 1e6, now_us
        held: dict[str, int] = {}
        for frame in self._held():
            if not frame.attempt:  # others wait to be tried again, not for a plan
                for segment in frame.segments:
                    held[segment.model] = held.get(segment.model, 0) + segment.num_rows
        now = {*counts, *held}
        told, self._told = sorted(now | self._told), now
        return [(TOPIC, self._load(model, counts, held, seconds, now_us)) for model in told]

    def _load(self, model: str, counts: Counts, held: dict[str, int], seconds: float, now_us: int) -> RouterLoad:
        rows, items, refused = (round(count / seconds, 3) for count in counts.get(model, (0, 0, 0)))
        return RouterLoad(model, rows, held.get(model, 0), now_us, self._instance, items, refused)

    def _count(self) -> None:
        """Count what is noted."""
        given, self._given = self._given, []
        ended, self._ended = self._ended, []
        if given:
            items = np.frombuffer(b"".join([row_items for _, row_items in given]), "<u2")
            for model, num_rows, num_items in _by_model(given, items):
                count = self._counts.setdefault(model, [0, 0, 0])
                count[0] += num_rows
                count[1] += num_items
        if ended:
            wrong = np.frombuffer(b"".join([statuses for _, statuses in ended]), "|u1") != _OK
            for model, _, num_refused in _by_model(ended, wrong):
                self._counts.setdefault(model, [0, 0, 0])[2] += num_refused


def _by_model(
    noted: list[tuple[list[tuple[str, int]], bytes]], values: np.ndarray[Any, Any]
) -> Iterable[tuple[str, int, int]]:
    """Model, rows and sum of the rows' values of each model; one value per row, frame after frame."""
    numbers: dict[str, int] = {}
    segments = [segment for each, _ in noted for segment in each]
    owners = [numbers.setdefault(model, len(numbers)) for model, _ in segments]
    sizes = [num_rows for _, num_rows in segments]
    rows = np.bincount(owners, weights=sizes, minlength=len(numbers))
    sums = np.bincount(np.repeat(owners, sizes), weights=values, minlength=len(numbers))
    return [(model, int(rows[number]), int(sums[number])) for model, number in numbers.items()]
