"""The journals of the control agents for a command: which there are, and reading one through a replay or a backtest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agents.orchestrator import ORCHESTRATOR
from infra.control_plane import control_specs
from infra.settings import Settings
from streams.agent import AgentSpec
from streams.codec import Codec
from streams.connection import Connection
from streams.control.journal_reader import read_journal, replay_codec
from streams.control.replay import JOURNAL, Difference, Replay
from streams.control.tenure import JournalPlace
from streams.errors import IsosError
from streams.provision import topic_partitions
from streams.registry.schema_log import read_schema_ids
from streams.topics import JOURNALED_AGENTS

DAY_MS: Final = 86_400_000
NOT_FOUND: Final = 3


class NoJournalError(IsosError):
    """The broker has no journal for an agent, or no topic of journals at all (``agent`` empty)."""

    exit_code = NOT_FOUND

    def __init__(self, agent: str = "") -> None:
        super().__init__(agent)
        self.agent = agent

    def __str__(self) -> str:
        whose = f"no partition for the {self.agent}" if self.agent else "no topic of journals"
        return f"The broker has {whose}; `isos topics list` shows what there is"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one agent's journal: its replay, the first difference, and how long it took with the reading."""

    replay: Replay
    difference: Difference | None
    is_part: bool
    seconds: float


def control_agents(settings: Settings) -> dict[str, AgentSpec]:
    """Every journaled agent, with the parameters that the composition gives it, by name in order of partitions."""
    specs = {spec.name: spec for spec in (ORCHESTRATOR, *control_specs(settings))}
    return {name: specs[name] for name in JOURNALED_AGENTS}


def begin_ms(*, from_start: bool) -> int | None:
    """Where a command begins to read: a day ago, or at the start."""
    return None if from_start else time.time_ns() // 1_000_000 - DAY_MS


class Journals:
    """The journals of a broker."""

    def __init__(self, connection: Connection, codec: Codec, num_partitions: int) -> None:
        self.codec = codec
        self.num_partitions = num_partitions
        self._connection = connection

    @classmethod
    async def open(cls, connection: Connection) -> Journals:
        """With the schemas that are registered. Raises RetriableError when the broker is away, NoJournalError."""
        codec = replay_codec(await read_schema_ids(connection))
        found = await topic_partitions(connection, [JOURNAL])
        if JOURNAL not in found:
            raise NoJournalError
        return cls(connection, codec, found[JOURNAL])

    @property
    def num_unknown(self) -> int:
        """Partitions of agents that this release does not know."""
        return max(0, self.num_partitions - len(JOURNALED_AGENTS))

    async def read(
        self,
        agent: str,
        take: Callable[[int, bytes | None], bool],
        since_ms: int | None,
        progress: Callable[[str, int, int], None],
    ) -> bool:
        """Hand each record's offset and value over until ``take`` says False; whether older ones were left out.

        Raises RetriableError, NoJournalError.
        """
        place = JournalPlace.of(agent)
        if place.partition >= self.num_partitions:
            raise NoJournalError(agent)
        return await read_journal(
            self._connection,
            place,
            lambda records: all(take(record.offset, record.value) for record in records),
            since_ms=since_ms,
            progress=lambda done, total: progress(agent, done, total),
        )

    async def replay(
        self, spec: AgentSpec, since_ms: int | None, progress: Callable[[str, int, int], None]
    ) -> Replayed:
        """Decide an agent's journal again, up to the first difference."""
        replay = Replay(spec, self.codec)
        found: list[Difference] = []

        def take(offset: int, value: bytes | None) -> bool:
            difference = replay.take(offset, value)
            if difference is not None:
                found.append(difference)
            return not found

        began = time.perf_counter()
        is_part = await self.read(spec.name, take, since_ms, progress)
        difference = found[0] if found else replay.end()
        return Replayed(replay, difference, is_part, time.perf_counter() - began)
