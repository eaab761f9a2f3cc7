"""Where a record stands in a log: topic id, partition, offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from schemas.quick import quick

Partition = NewType("Partition", int)
Offset = NewType("Offset", int)


@quick
@dataclass(frozen=True, slots=True, order=True)
class RecordCoordinate:
    """Coordinate of a control record: topic name, partition and offset; used as a cause."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, order=True)
class Coordinate:
    """Identity of a request inside the data plane: topic id (16 bytes), partition, offset in ``inference.requests``."""

    topic_id: bytes
    partition: Partition
    offset: Offset
