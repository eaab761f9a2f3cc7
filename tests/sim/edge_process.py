"""The edge as simulated: requests of a source partition become frames, committed behind their acknowledgements."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agents.admission import AdmissionPolicy, Refusal, admit
from schemas.request import InferenceRequest
from streams.columns import FrameBuilder, Row
from streams.edge import _describe, _end
from streams.errors import PoisonRecordError
from streams.ledger_log import fallback_id
from streams.memory_log import LogRecord
from streams.ordering import InOrder
from tests.sim.group import Place
from tests.sim.processes import Process, Step
from tests.sim.world import TOPIC_ID, Outcome

POLICY = AdmissionPolicy(default_timeout_ms=5_000_000, max_timeout_ms=10_000_000)
MAX_IN_FLIGHT = 16


@dataclass(slots=True)
class EdgePartition:
    """As ``streams.edge._Partition``, with the position of its reader."""

    position: int
    expected: int
    admitted: FrameBuilder
    ended: FrameBuilder
    window: InOrder[int] = field(default_factory=InOrder)
    committable: int = -1


class EdgeProcess(Process):
    """Mirrors ``streams.edge.Edge``; the quota admits everything."""

    role = "edge"

    def __init__(self, world: Any, name: str) -> None:
        self.partitions: dict[Place, EdgePartition] = {}
        self.frame_id = 0
        super().__init__(world, name)

    def assigned(self, places: tuple[Place, ...]) -> None:
        self.partitions = {}
        for place in places:
            start = self.start_of(place)
            builders = FrameBuilder(TOPIC_ID, place[1]), FrameBuilder(TOPIC_ID, place[1])
            self.partitions[place] = EdgePartition(start, start, *builders)

    def own_steps(self) -> list[Step]:
        return [
            ("fetch", partial(self.fetch, place))
            for place, partition in self.partitions.items()
            if partition.position < self.world.end(place) and len(partition.window) < MAX_IN_FLIGHT
        ]

    def committable(self) -> dict[Place, int]:
        return {
            place: partition.committable
            for place, partition in self.partitions.items()
            if partition.committable > self.committed.get(place, -1)
        }

    @property
    def idle(self) -> bool:
        return super().idle and not any(len(partition.window) for partition in self.partitions.values())

    def fetch(self, place: Place) -> str:
        """Make the frames of one fetch."""
        partition = self.partitions[place]
        records = self.world.log.read(*place, partition.position, self.world.rng.randint(1, 5))
        if not records:
            partition.position = self.world.end(place)
            return f"{place[1]}: only markers"
        for record in records:
            row = self.row(partition, record)
            (partition.admitted if row.error is None else partition.ended).add(row)
        partition.position = end = records[-1].offset + 1
        self.flush(partition, end)
        return f"{place[1]}@{records[0].offset}..{end - 1}"

    def row(self, partition: EdgePartition, record: LogRecord) -> Row:
        """The row of a request record."""
        received_us = record.timestamp_us // 1000 * 1000
        gap = max(0, record.offset - partition.expected)
        partition.expected = record.offset + 1
        row = Row(record.offset, gap, received_us, 0, 5, b"", "default", b"", "", "", 0, ())
        try:
            request: InferenceRequest = self.world.wire.decode("inference.requests", record.value)
        except PoisonRecordError as error:
            row.request_id = fallback_id(record.key, record.partition, record.offset)
            _end(row, error.code, error.message)
            return row
        _describe(row, request, record)
        verdict = admit(request, self.view, POLICY)
        if isinstance(verdict, Refusal):
            _end(row, verdict.code, verdict.message, verdict.retry_after_ms)
        else:
            row.items, row.blocks = verdict.items, verdict.blocks
            row.deadline_us = received_us + verdict.timeout_ms * 1000
        return row

    def flush(self, partition: EdgePartition, end: int) -> None:
        """Send the collected rows as frames."""
        entry = partition.window.start(end)
        for topic, builder in (("inference.admitted", partition.admitted), ("inference.executed", partition.ended)):
            for frame in builder.build(self.frame_id, self.world.now_us, self.view.sequence):
                self.frame_id += 1
                partition.window.add(entry)
                done = partial(self.sent, partition, entry)
                self.send(topic, frame.partition, self.world.wire.encode(topic, frame), done)
        self.release(partition, entry)
        if self.world.bugs.commit_past == self.role:
            partition.committable = end

    def sent(self, partition: EdgePartition, entry: Any, outcome: Outcome) -> None:
        """A frame stands, or its fate is unknown."""
        if outcome.error:
            self.fail(outcome)
        else:
            self.release(partition, entry)

    def release(self, partition: EdgePartition, entry: Any) -> None:
        for end in partition.window.finish(entry):
            partition.committable = max(partition.committable, end)
