"""A connection to memory for commands that change it: read to its end, propose, wait for the Orchestrator's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from aiokafka import AIOKafkaProducer

from schemas.memory import MemoryCommand
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import IsosError
from streams.memory_view import MemoryView, models, rejection
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch

COMMANDS_TOPIC: Final = "memory.commands"
SEND_TIMEOUT_S: Final = 10.0
NOT_FOUND: Final = ("unknown_model", "unknown_version")


class ChangeRefusedError(IsosError):
    """The Orchestrator refused a change, or it names what is not there; ``remedy`` is what to do."""

    def __init__(self, code: str, sentence: str, remedy: str) -> None:
        super().__init__(code, sentence, remedy)
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.exit_code = 3 if code in NOT_FOUND else 4

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}. {self.remedy}"


def require_model(view: MemoryView, model: str) -> None:
    """Raise ChangeRefusedError for a model that is not registered."""
    if model not in models(view):
        raise ChangeRefusedError("unknown_model", f"No model {model} is registered", "`isos models list` shows them.")


class MemoryControl:
    """An open connection to memory. Use ``async with``."""

    def __init__(self, connection: Connection, timeout_s: float = 30.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        """Read memory to its end. Raises RetriableError when the broker is away."""
        self._codec = Codec(await read_schema_ids(self._connection))
        self._memory = MemoryWatch(self._connection, self._codec)
        await self._memory.start(self._timeout_s)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the clients."""
        await self._memory.stop()
        if self._producer is not None:
            await stop_quietly(self._producer)

    @property
    def view(self) -> MemoryView:
        """Memory as it stands now."""
        return self._memory.view

    async def wait_for(self, stands: Callable[[MemoryView], bool], what: str) -> MemoryView:
        """Wait until memory says something. Raises WatchTimeoutError, which names ``what``."""
        return await self._memory.wait_for(stands, self._timeout_s, what)

    async def propose(self, command: MemoryCommand, stands: Callable[[MemoryView], bool], remedy: str) -> None:
        """Send a command and wait until what it wants stands, whoever wrote it, or it is refused.

        Raises ChangeRefusedError with the ``remedy``, and WatchTimeoutError when nobody answers in time.
        """
        if self._producer is None:
            self._producer = producer(self._connection, enable_idempotence=True)
            await start(self._producer, "connecting to write")
        value = self._codec.encode(COMMANDS_TOPIC, command)
        sent = self._producer.send_and_wait(full_name(COMMANDS_TOPIC), value, key=command.key.encode())
        await bounded(sent, SEND_TIMEOUT_S, "sending the command")
        view = await self.wait_for(
            lambda view: stands(view) or rejection(view, command.command_id) is not None,
            f"The Orchestrator's answer about {command.key}",
        )
        refused = rejection(view, command.command_id)
        if refused is not None and not stands(view):
            raise ChangeRefusedError(refused.code, refused.message.rstrip("."), remedy)
