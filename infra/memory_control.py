"""A connection to memory for commands that change it: read to its end, propose, wait for the Orchestrator's answer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

from aiokafka import AIOKafkaProducer

from infra.audit_trail import CommandAudit
from infra.signatory import ReviewWaitsError, Signatory, waiting_review, waits
from schemas.memory import MemoryCommand
from streams.audit_facts import environment_name, facts_of
from streams.audit_operation import Facts, Operation, unaudited
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import IsosError
from streams.memory_view import MemoryView, models, rejection
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch, WatchTimeoutError

COMMANDS_TOPIC: Final = "memory.commands"
SEND_TIMEOUT_S: Final = 10.0
NOT_FOUND: Final = ("unknown_model", "unknown_version", "unknown_review", "unknown_name")


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

    def __init__(
        self,
        connection: Connection,
        timeout_s: float = 30.0,
        *,
        signatory: Signatory | None = None,
        audit: CommandAudit | None = None,
    ) -> None:
        self._signatory = signatory
        self._audit = audit
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

    async def propose(
        self,
        command: MemoryCommand,
        stands: Callable[[MemoryView], bool],
        remedy: str,
        *,
        wait_for_review: bool = True,
    ) -> None:
        """Send a command and wait until what it wants stands, whoever wrote it, or it is refused.

        Raises ChangeRefusedError with the ``remedy``, WatchTimeoutError when nobody answers in time, and
        ReviewWaitsError when a person is to approve it and has not yet: at once without ``wait_for_review``.
        """
        facts = facts_of(self.view, command.key, command.body, command.command_id)
        async with self.audited(f"command.{command.kind}", facts) as operation:
            await self._propose(command, stands, remedy, wait_for_review=wait_for_review)
            operation.affected(command.key)

    @contextlib.asynccontextmanager
    async def audited(self, name: str, facts: Facts) -> AsyncIterator[Operation]:
        """Around a change: the audit log hears of it before and after, where this connection has one to tell."""
        if self._audit is None:
            with unaudited(name, facts) as operation:
                yield operation
            return
        client = await self._connected()
        async with self._audit.operation(name, facts, client, self._codec, environment_name(self.view)) as operation:
            yield operation

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = producer(self._connection, enable_idempotence=True)
            await start(self._producer, "connecting to write")
        return self._producer

    async def _propose(
        self, command: MemoryCommand, stands: Callable[[MemoryView], bool], remedy: str, *, wait_for_review: bool
    ) -> None:
        if self._signatory is not None:
            command = self._signatory.signed(command, self.view)
        client = await self._connected()
        value = self._codec.encode(COMMANDS_TOPIC, command)
        sent = client.send_and_wait(full_name(COMMANDS_TOPIC), value, key=command.key.encode())
        await bounded(sent, SEND_TIMEOUT_S, "sending the command")

        def is_answered(view: MemoryView) -> bool:
            return stands(view) or rejection(view, command.command_id) is not None

        what = f"The Orchestrator's answer about {command.key}"
        view = await self.wait_for(
            lambda view: is_answered(view) or waiting_review(view, command.command_id) is not None, what
        )
        if not is_answered(view):
            view = await self._reviewed(command, is_answered, wait=wait_for_review)
        refused = rejection(view, command.command_id)
        if refused is not None and not stands(view):
            raise ChangeRefusedError(refused.code, refused.message.rstrip("."), remedy)

    async def _reviewed(
        self, command: MemoryCommand, is_answered: Callable[[MemoryView], bool], *, wait: bool
    ) -> MemoryView:
        """Wait for the people who decide. Raises ReviewWaitsError."""
        review = waiting_review(self.view, command.command_id)
        if review is not None:
            if not wait:
                raise ReviewWaitsError(review, waited=False)
            print(f"{waits(review)}; waiting {self._timeout_s:g} s for it.", file=sys.stderr, flush=True)
        try:
            return await self.wait_for(is_answered, f"The decision about {command.key}")
        except WatchTimeoutError:
            review = waiting_review(self.view, command.command_id)
            if review is None:
                raise
            raise ReviewWaitsError(review, waited=True) from None
