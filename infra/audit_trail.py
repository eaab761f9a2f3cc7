"""What a command of a person tells the audit log: before it changes something, and how it ended.

    with audited(settings, "topics.grow", Facts(resources=("partitions=4",))) as operation:
        operation.affected("inference.requests")

``MemoryControl`` does it for every command to memory. A record is waited for, at most ``TELL_S``; where nobody takes
it, it goes to the spool of the data directory, and the command goes on with a warning. ``held`` sends both records at
the end: the topic may not be there before.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from aiokafka.errors import KafkaError

from infra.audit_actor import actor_of, begun, ends_by, now_us
from infra.audit_spool import spool
from infra.settings import Settings
from schemas.audit import AuditRecord
from streams.audit_operation import NO_FACTS, Facts, Operation
from streams.audit_writer import INTAKE, Encoder
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import InvariantError, RetriableError
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name

TELL_S: Final = 5.0
UNTOLD: Final = (KafkaError, RetriableError, InvariantError, OSError)


class CommandAudit:
    """Tells the audit log about one command line. ``told``: whether every record found a taker so far.

    ``is_quiet``: a command that failed has said why itself.
    """

    def __init__(self, settings: Settings) -> None:
        self.actor = actor_of(settings)
        self.told = True
        self.is_quiet = False
        self._settings = settings

    @contextlib.asynccontextmanager
    async def operation(
        self, name: str, facts: Facts, client: Any, codec: Encoder, environment: str = ""
    ) -> AsyncIterator[Operation]:
        """Around what is done with a broker at hand: ``client`` is a started producer."""
        operation = begun(replace(self.actor, environment=environment or self.actor.environment), name, facts)
        await self._send(client, codec, operation.before())
        try:
            yield operation
        except BaseException as error:  # noted, never kept
            ends_by(operation, error)
            raise
        finally:
            await self._send(client, codec, operation.after(now_us()))

    async def tell(self, records: Sequence[AuditRecord]) -> None:
        """Send records with a connection of their own; what nobody takes is spooled."""
        if not self.told:  # nobody waits twice
            for record in records:
                self._spool(record)
            return
        connection = Connection(self._settings.bootstrap)
        client: Any = producer(connection, enable_idempotence=True)
        try:
            await start(client, "connecting to write audit records", TELL_S)
        except UNTOLD as error:
            for record in records:
                self._spool(record, error)
            return
        try:
            codec = Codec(await bounded(read_schema_ids(connection), TELL_S, "reading the schemas"))
            for record in records:
                await self._send(client, codec, record)
        except UNTOLD as error:
            for record in records:
                self._spool(record, error)
        finally:
            await stop_quietly(client)

    async def _send(self, client: Any, codec: Encoder, record: AuditRecord) -> None:
        try:
            if not self.told:  # it took none before, and nobody waits twice
                self._spool(record)
                return
            value, key = codec.encode(INTAKE, record), record.operation_id.encode()
            sent = client.send_and_wait(full_name(INTAKE), value, key=key, partition=0)
            await bounded(sent, TELL_S, "telling the audit log")
        except UNTOLD as error:
            self._spool(record, error)

    def _spool(self, record: AuditRecord, error: BaseException | None = None) -> None:
        """Leave a record to the Orchestrator of this data directory, and say so the first time."""
        what = "the Orchestrator of this data directory will"
        try:
            spool(self._settings, record)
        except OSError as problem:
            what = f"nor can it be written here ({problem.strerror}): it is lost"
        if self.told and not self.is_quiet:
            why = str(error) or type(error).__name__
            print(f"isos: the audit log did not take a record ({why}); {what}.", file=sys.stderr)
        self.told = False


@contextlib.contextmanager
def audited(settings: Settings, name: str, facts: Facts = NO_FACTS, *, held: bool = False) -> Iterator[Operation]:
    """Around a command without an open connection; ``held``: both records are sent at its end."""
    audit = CommandAudit(settings)
    operation = begun(audit.actor, name, facts)
    waiting = [operation.before()]
    if not held:
        asyncio.run(audit.tell([waiting.pop()]))
    try:
        yield operation
    except BaseException as error:  # noted, never kept
        ends_by(operation, error)
        audit.is_quiet = True
        raise
    finally:
        asyncio.run(audit.tell([*waiting, operation.after(now_us())]))
