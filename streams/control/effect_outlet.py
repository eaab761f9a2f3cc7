"""Where a control agent's journaled effects go: topics by an idempotent producer, memory through the event store.

Every record carries its effect id (``agent/sequence/index``) in the header ``isos-effect``; sending an entry's effects
again is harmless, because receivers drop ids they have seen and the event store knows its commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from aiokafka.errors import KafkaError

from schemas.journal import JournalEffect, JournalEntry
from schemas.memory import MemoryEvent
from streams.connection import Connection, UnreachableError, bounded, producer, start, stop_quietly
from streams.control.effect_id import EFFECT_HEADER, effect_id
from streams.control.journal import MEMORY_EVENTS, RecordCodec
from streams.errors import InvariantError
from streams.memory_view import MemoryView
from streams.topics import full_name

SEND_TIMEOUT_S: Final = 30.0


class MemoryStore(Protocol):
    """The writer of memory, as ``streams.control.event_store.EventStore``."""

    view: MemoryView

    @property
    def sequence(self) -> int:
        """Sequence of the last event."""

    async def open(self) -> Any:
        """Claim and fold."""

    async def append(self, event: MemoryEvent) -> int:
        """Append unless it is there already."""

    async def stop(self) -> None:
        """Release."""


class Outlet(Protocol):
    """Takes effects; broken after any error, and opened again."""

    async def open(self) -> None:
        """Become able to send."""

    async def send(self, entries: Sequence[JournalEntry]) -> None:
        """Send all effects of ``entries`` in order; returns when they are written. Raises RetriableError."""

    async def close(self) -> None:
        """Release the clients."""


class KafkaOutlet:
    """Effects of one agent on a broker; ``memory`` for the agent that writes it."""

    def __init__(
        self, name: str, connection: Connection, codec: RecordCodec, memory: MemoryStore | None = None
    ) -> None:
        self._name = name
        self._connection = connection
        self._codec = codec
        self._memory = memory
        self._client: Any = None

    async def open(self) -> None:
        """Start a producer and, for memory's writer, claim and fold memory."""
        self._client = producer(self._connection, enable_idempotence=True)
        await start(self._client, f"starting {self._name}'s producer")
        if self._memory is not None:
            await self._memory.open()

    async def send(self, entries: Sequence[JournalEntry]) -> None:
        """One producer sends in order, so a later effect never overtakes an earlier one on its partition."""
        futures: list[Any] = []
        try:
            for entry in entries:
                for index, effect in enumerate(entry.effects):
                    if effect.topic == MEMORY_EVENTS:
                        await self._append(effect)
                    else:
                        futures.append(await self._hand_over(effect, effect_id(entry, index)))
            await bounded(asyncio.gather(*futures), SEND_TIMEOUT_S, f"sending {self._name}'s effects")
        except KafkaError as error:
            raise UnreachableError(f"sending {self._name}'s effects", type(error).__name__) from error
        finally:
            for future in futures:
                future.add_done_callback(_observe)

    async def close(self) -> None:
        """Stop the producer and the event store."""
        if self._client is not None:
            await stop_quietly(self._client)
        if self._memory is not None:
            await self._memory.stop()

    async def _hand_over(self, effect: JournalEffect, identity: str) -> Any:
        sending = self._client.send(
            full_name(effect.topic),
            effect.value,
            key=effect.key or None,
            partition=None if effect.partition < 0 else effect.partition,
            headers=[(EFFECT_HEADER, identity.encode())],
        )
        return await bounded(sending, SEND_TIMEOUT_S, f"sending {self._name}'s effects")

    async def _append(self, effect: JournalEffect) -> None:
        if self._memory is None:
            raise InvariantError(f"{self._name} has no memory to write to")
        await self._memory.append(self._codec.decode(MEMORY_EVENTS, effect.value))


def _observe(future: Any) -> None:
    """Retrieve the exception of a send that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
