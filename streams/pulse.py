"""Signs of life: a heartbeat each second, and a telemetry window where a stage has one.

Sends are best effort: a heartbeat that cannot be sent is itself what the Monitor watches for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.frame import InferenceFrame
from schemas.telemetry import LATENCY_BOUNDS_MS, Heartbeat, LoadedModel, ModelWindow, Telemetry
from streams.check_rows import client_parts, client_rows, picked
from streams.codec import Codec
from streams.columns import Array, segment_starts
from streams.topics import full_name

log = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
SEND_TIMEOUT_S: Final = 5.0
MOST_NOTED: Final = 256
GATE: Final = "gate"
FAULT: Final = "output_invalid"
OK: Final = 1
BOUNDS_US: Final = np.array(LATENCY_BOUNDS_MS, np.int64) * 1000
BINS: Final = len(BOUNDS_US) + 1


class _Answered(NamedTuple):
    """What a window needs of an answered frame."""

    segments: tuple[tuple[str, str, int], ...]
    statuses: bytes
    received_us: bytes
    completed_us: int


@dataclass(slots=True)
class TelemetryWindow:
    """Counts of the results written since the last window, per model version, without those of checks.

    A frame is only noted; many are counted at once, for their columns are short and each look at one has its price.
    """

    counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    latencies: dict[tuple[str, str], np.ndarray[Any, np.dtype[np.int64]]] = field(default_factory=dict)
    num_frames: int = 0
    started_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    noted: list[_Answered] = field(default_factory=list)
    faults: dict[tuple[str, str], int] = field(default_factory=dict)
    faults_us: int = field(default_factory=lambda: time.time_ns() // 1000)

    def add(self, frame: InferenceFrame, completed_us: int) -> None:
        """Note an answered frame: rows, outcome, time from the broker's timestamp to the result."""
        self.num_frames += 1
        mine = client_rows(frame)
        if frame.errors:
            self._note_faults(frame, mine)
        if mine is None:
            segments = tuple([(segment.model, segment.version, segment.num_rows) for segment in frame.segments])
            self.noted.append(_Answered(segments, frame.statuses, frame.received_us, completed_us))
        else:
            statuses, received_us = picked(frame.statuses, "|u1", mine), picked(frame.received_us, "<i8", mine)
            self.noted.append(_Answered(client_parts(frame, mine), statuses, received_us, completed_us))
        if len(self.noted) >= MOST_NOTED:
            self._count()

    def _note_faults(self, frame: InferenceFrame, mine: Array | None) -> None:
        """Count the outputs that failed the gate: what the executor that made them cannot know of."""
        rows = [error.row for error in frame.errors if error.code == FAULT and (mine is None or mine[error.row])]
        starts = segment_starts(frame) if rows else ()
        for row in rows:
            segment = frame.segments[bisect_right(starts, row) - 1]
            version = (segment.model, segment.version)
            self.faults[version] = self.faults.get(version, 0) + 1

    def _count(self) -> None:
        """Count what is noted."""
        noted, self.noted = self.noted, []
        sizes = [size for each in noted for _, _, size in each.segments]
        if not sizes:
            return
        numbers: dict[tuple[str, str], int] = {}
        owners = [
            numbers.setdefault((model, version), len(numbers)) for each in noted for model, version, _ in each.segments
        ]
        owner = np.repeat(owners, sizes)
        statuses = np.frombuffer(b"".join([each.statuses for each in noted]), "|u1")
        outcomes = np.bincount(owner * 5 + statuses, minlength=5 * len(numbers)).reshape(-1, 5)
        spent = np.repeat([each.completed_us for each in noted], [len(each.statuses) for each in noted])
        spent = spent - np.frombuffer(b"".join([each.received_us for each in noted]), "<i8")
        sums, slowest = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.int64)
        np.add.at(sums, owner, spent)
        np.maximum.at(slowest, owner, spent)
        is_ok = statuses == OK
        bins = owner[is_ok] * BINS + np.searchsorted(BOUNDS_US, spent[is_ok])
        latencies = np.bincount(bins, minlength=BINS * len(numbers)).reshape(-1, BINS)
        for key, number in numbers.items():
            count = self.counts.setdefault(key, [0] * 7)
            count[0] += int(outcomes[number].sum())
            for status in range(1, 5):
                count[status] += int(outcomes[number, status])
            count[5] += int(sums[number])
            count[6] = max(count[6], int(slowest[number]))
            self.latencies[key] = self.latencies.get(key, 0) + latencies[number]

    def close(self, stage: str, instance: int, queue_depth: int) -> Telemetry:
        """The window's record; a new window begins."""
        self._count()
        now = time.time_ns() // 1000
        models = tuple(_window(key, count, self.latencies[key]) for key, count in sorted(self.counts.items()))
        record = Telemetry(
            stage, instance, self.started_us, now - self.started_us, self.num_frames, queue_depth, models
        )
        self.counts, self.latencies, self.num_frames, self.started_us = {}, {}, 0, now
        return record

    def close_faults(self, instance: int) -> Telemetry | None:
        """What failed the gate since the last call, as the window of a stage of its own; None where nothing did."""
        since_us, now = self.faults_us, time.time_ns() // 1000
        faults, self.faults, self.faults_us = self.faults, {}, now
        models = tuple(ModelWindow(*key, num, 0, num, 0, 0, 0, 0) for key, num in sorted(faults.items()))
        return Telemetry(GATE, instance, since_us, now - since_us, 0, 0, models) if models else None


def _window(key: tuple[str, str], count: list[int], latencies: np.ndarray[Any, np.dtype[np.int64]]) -> ModelWindow:
    """A version's counts as a record; zeros at the end of the latencies are left out."""
    rows, ok, error, rejected, expired, total_us, max_us = count
    counts = tuple(np.trim_zeros(latencies, "b").tolist())
    return ModelWindow(*key, rows, ok, error, rejected, expired, total_us, max_us, counts)


class Pulse:
    """Sends a process's heartbeat and telemetry until cancelled.

    ``windows``: each closes a window of telemetry; None where there is nothing to tell. ``more``: topics (short names)
    and records of what else is told, given the time in microseconds.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        codec: Codec,
        role: str,
        instance: int,
        memory_sequence: Callable[[], int],
        *,
        models: Callable[[], tuple[LoadedModel, ...]] = tuple,
        load: Callable[[], tuple[str, str, float, float, float]] = lambda: ("", "", 0.0, 0.0, 0.0),
        windows: Sequence[Callable[[], Telemetry | None]] = (),
        more: Callable[[int], Iterable[tuple[str, Any]]] = lambda _now_us: (),
    ) -> None:
        self._producer = producer
        self._codec = codec
        self._role = role
        self._instance = instance
        self._memory_sequence = memory_sequence
        self._models = models
        self._load = load
        self._windows = windows
        self._more = more
        self._started_us = time.time_ns() // 1000

    async def run(self) -> None:
        """One heartbeat a second."""
        while True:
            await self._beat()
            await asyncio.sleep(INTERVAL_S)

    async def _beat(self) -> None:
        beat = Heartbeat(
            self._role, self._instance, os.getpid(), self._started_us, time.time_ns() // 1000,
            self._memory_sequence(), self._models(), *self._load(),
        )  # fmt: skip
        await self._send("control.heartbeats", beat)
        for close in self._windows:
            window = close()
            if window is not None:
                await self._send("control.telemetry", window)
        await asyncio.gather(*[self._send(*each) for each in self._more(time.time_ns() // 1000)])

    async def _send(self, topic: str, record: Any) -> None:
        key = f"{self._role}-{self._instance}".encode()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._producer.send_and_wait(full_name(topic), self._codec.encode(topic, record), key=key)
        except (KafkaError, TimeoutError) as error:
            log.warning("a record for %s was not sent: %s", topic, type(error).__name__)
