"""One instance's time in charge of a journaled agent: take over, then round after round, whatever the transport.

Taking over: claim the journal -> open the outlet (which claims and folds memory for its writer) -> fold the journal ->
send the last effects once more. A round: inputs -> decide -> entries through the fenced writer -> effects. After any
error the tenure is over: release it and begin a new one; the cursors drop what was journaled before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.journal import JournalEntry
from streams.agent import AgentSpec
from streams.control.effect_outlet import Outlet
from streams.control.journal import SNAPSHOT_EVERY, Input, JournaledAgent, RecordCodec, restore
from streams.errors import InvariantError
from streams.partition_log import LogWriter, Outgoing, PartitionLog
from streams.topics import JOURNALED_AGENTS, full_name

log = logging.getLogger(__name__)

JOURNAL: Final = "control.journal"
MAX_ROUND: Final = 128
TAIL: Final = SNAPSHOT_EVERY + 4 * MAX_ROUND


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Where an agent's journal is: topic on the broker and partition."""

    topic: str
    partition: int

    @classmethod
    def of(cls, agent: str) -> JournalPlace:
        """The place of one of ours."""
        return cls(full_name(JOURNAL), JOURNALED_AGENTS.index(agent))


class Tenure:
    """A claim on an agent's journal and the state folded from it. ``refused`` hears of each failed journal write."""

    def __init__(
        self,
        spec: AgentSpec,
        codec: RecordCodec,
        partitions: PartitionLog,
        place: JournalPlace,
        outlet: Outlet,
        refused: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self.agent = JournaledAgent(spec, codec)
        self._spec = spec
        self._codec = codec
        self._partitions = partitions
        self._place = place
        self._outlet = outlet
        self._refused = refused
        self._writer: LogWriter | None = None
        self._claimed_s = 0.0

    @property
    def age_s(self) -> float:
        """Seconds since the claim; the broker forgets an unused one after days, so it is renewed long before."""
        return time.monotonic() - self._claimed_s

    async def take_over(self) -> None:
        """Claim, fold and send the last effects again. Raises RetriableError."""
        self._writer = await self._partitions.claim(self._place.topic, self._place.partition)
        self._claimed_s = time.monotonic()
        await self._outlet.open()
        entries = await self._read()
        self.agent, divergences = restore(self._spec, self._codec, entries)
        for found in divergences[:1]:
            log.warning("%s decides otherwise than its journal at %d: %s", found.agent, found.sequence, found.what)
        # Effects follow their entries round by round: only those of the last round (and its snapshot) can be missing.
        await self._outlet.send(entries[-(MAX_ROUND + 1) :])
        # A journal is not kept for ever. Claims are renewed daily, so a snapshot is never much older than a day.
        if self.agent.sequence:
            await self._journal([self.agent.snapshot()])

    async def round(self, inputs: Sequence[Input], now_us: int) -> None:
        """Decide on up to ``MAX_ROUND`` inputs, journal, send. On return all of them may be acknowledged."""
        if len(inputs) > MAX_ROUND:
            raise InvariantError(f"{self._spec.name}: a round of {len(inputs)} inputs")
        entries = [entry for given in inputs if (entry := self.agent.step(given, now_us)) is not None]
        if not entries:
            return
        if self.agent.snapshot_due():
            entries.append(self.agent.snapshot())
        await self._journal(entries)
        await self._outlet.send(entries)

    async def release(self) -> None:
        """Close what was opened; not the claim, which only a successor takes."""
        await self._outlet.close()
        if self._writer is not None:
            await self._writer.stop()

    async def _read(self) -> list[JournalEntry]:
        """Entries from the last snapshot (or the log's start) on, found by looking further back each time."""
        topic, partition = self._place.topic, self._place.partition
        begin, end = await self._partitions.bounds(topic, partition)
        reach = TAIL
        while True:
            first = max(begin, end - reach)
            records = await self._partitions.read(topic, partition, first)
            entries = [self._codec.decode(JOURNAL, record.value) for record in records]
            if first == begin or any(entry.kind == "snapshot" for entry in entries):
                return entries
            reach *= 4

    async def _journal(self, entries: Sequence[JournalEntry]) -> None:
        """Write entries; shielded, so that the refusal of a write that is cancelled meanwhile is still heard."""
        if self._writer is None:
            raise InvariantError(f"{self._spec.name} has no claim on its journal")
        key = self._spec.name.encode()
        records: list[Outgoing] = [(key, self._codec.encode(JOURNAL, entry), ()) for entry in entries]
        writing = asyncio.ensure_future(_write(self._writer, records))
        writing.add_done_callback(self._note)
        await asyncio.shield(writing)

    def _note(self, writing: asyncio.Future[None]) -> None:
        if not writing.cancelled() and (error := writing.exception()) is not None:
            self._refused(error)


async def _write(writer: LogWriter, records: list[Outgoing]) -> None:
    await writer.confirm(await writer.submit(records))
