"""What must stand before an offset is committed: the rows of the record on the next topic, or its dead letter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas.frame import InferenceFrame
from streams.columns import HEDGE, SHADOW
from streams.memory_log import LogRecord
from streams.topics import full_name
from tests.sim.control_invariants import ControlInvariants
from tests.sim.group import Place
from tests.sim.retry_invariants import RetryInvariants, Violated
from tests.sim.world import FOREVER_US, TOPIC_ID, World

COMMIT = "committed offsets never pass unfinished work"
DEAD_LETTER = "what cannot be read is kept before it is passed"

Coordinate = tuple[int, int]
AFTER = {
    "edge": ("inference.admitted", "inference.executed"),
    "router": ("inference.routed", "inference.executed"),
    "executor": ("inference.executed", "inference.retries"),
    "validator": ("inference.results",),
}


def coordinates(frame: InferenceFrame) -> list[Coordinate]:
    """Partition and offset of each row; of a row's hedge as ``copy_of`` has it; of shadows' copies none."""
    offsets = np.frombuffer(frame.offsets, "<i8").tolist()
    rows = [((frame.partition, offset), role) for offset, role in zip(offsets, frame.roles, strict=True)]
    return [copy_of(row) if role == HEDGE else row for row, role in rows if role != SHADOW]


def copy_of(row: Coordinate) -> Coordinate:
    """What the copy of a row goes by; it is its own copy's."""
    return row[0], ~row[1]


class CommitInvariants:
    """Watches a world's commits. ``seen``: the coordinates that stand on each topic; ``letters``: keys of letters."""

    def __init__(
        self,
        world: World,
        seen: Mapping[str, set[Coordinate]],
        control: ControlInvariants,
        retries: RetryInvariants,
        violated: Violated,
    ) -> None:
        self.world = world
        self.seen = seen
        self.control = control
        self.retries = retries
        self.violated = violated
        self.letters: set[bytes] = set()
        self.checked: dict[tuple[str, Place], int] = {}

    def committed(self, group: str, place: Place, offset: int) -> None:
        first = self.checked.get((group, place), 0)
        if offset <= first:
            return
        self.checked[group, place] = offset
        for record in self.world.log.scan(*place, first):
            if record.offset >= offset:
                break
            if group not in AFTER:
                self.control.committed(group, record)
            else:
                self.unfinished(group, record, offset)

    def unfinished(self, group: str, record: LogRecord, end: int) -> None:
        """A committed record's rows stand on the next topic; one that cannot be read is a dead letter."""
        content = self.world.readable(record.topic, record.value)
        where = f"{group} committed {record.topic}-{record.partition}@{end}"
        if content is None:
            key = f"{full_name(record.topic)}/{record.partition}/{record.offset}"
            if key.encode() not in self.letters:
                self.violated(DEAD_LETTER, f"{where}, but no dead letter keeps {record.offset}", record.topic)
        if group == "edge":
            wanted = [(record.partition, record.offset)]
        elif content is None or content.topic_id != TOPIC_ID:
            wanted = []
        else:
            wanted = coordinates(content)
            if group == "validator":  # nobody needs to hear of a copy
                wanted = [(partition, offset) for partition, offset in wanted if offset >= 0]
        if group == "validator" and self.world.profile.give_up_us != FOREVER_US:
            return  # the reaper's own results hold no frame back: it would find the request again
        for coordinate in wanted:
            if not any(coordinate in self.seen.get(topic, ()) for topic in AFTER[group]):
                name = f"{coordinate[0]}@{coordinate[1]}"
                missing = f"request {name} of record {record.offset} stands on none of {', '.join(AFTER[group])}"
                self.violated(COMMIT, f"{where}, but {missing}", name)
            elif group in ("router", "executor") and not self.retries.stands(group, coordinate, content.attempt):
                name = f"{coordinate[0]}@{coordinate[1]}"
                self.violated(COMMIT, f"{where}, but try {content.attempt + 1} of request {name} went nowhere", name)
