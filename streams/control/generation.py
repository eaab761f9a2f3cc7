"""One assignment under which an instance holds a control agent, and what waits for the agent meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streams.control.control_input import input_of_record
from streams.control.journal import Input
from streams.partition_log import LogRecord
from streams.silence import FedPartition

INBOX: Final = 4_096
"""Events of consumed topics that wait at most."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An input with the Faust event to acknowledge (None for a watched record)."""

    given: Input
    event: Any = None


@dataclass(slots=True, eq=False)
class Generation:
    """What waits, of consumed and of watched topics, and the task that works on it; ``fed``: by topic, full name."""

    inbox: deque[Waiting] = field(default_factory=deque)
    watched: deque[Waiting] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    fed: dict[str, FedPartition] = field(default_factory=dict)

    @property
    def awaited(self) -> list[FedPartition]:
        """The partitions that Faust can hand events to: none while the inbox is full."""
        return [] if len(self.inbox) >= INBOX else list(self.fed.values())

    def hear(self, name: str, batch: Sequence[LogRecord]) -> None:
        """Take records of a watched topic (short name)."""
        self.watched.extend(Waiting(input_of_record(name, record)) for record in batch)
        self.wake.set()
