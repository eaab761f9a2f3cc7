"""Writes to ``_schemas``, one change at a time, each decided on the log as it stands under a claim of ours.

Several writers converge: whoever claims last shuts the others out, and one that was shut out claims again, reads to the
end and decides anew. So two of them never give out the same id or the same version twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any, Final

from streams.connection import Connection
from streams.errors import InvariantError, RetriableError
from streams.fenced import RENEW_AFTER_S, FencedWriter
from streams.registry.changes import Change
from streams.registry.rules import RegistryError
from streams.registry.schema_follower import SchemaFollower
from streams.registry.schema_log import SchemaLog, fold
from streams.topics import SCHEMAS_TOPIC

ATTEMPTS: Final = 6
BACK_OFF_S: Final = 0.2

log = logging.getLogger(__name__)


class SchemaWriter:
    """Changes the schema log that ``follower`` reads. Claims at the first change, and again when it must."""

    def __init__(self, connection: Connection, follower: SchemaFollower) -> None:
        self._connection = connection
        self._follower = follower
        self._writer: FencedWriter | None = None
        self._turn = asyncio.Lock()

    async def change(self, decide: Callable[[SchemaLog], Change]) -> Any:
        """Write what ``decide`` gives and return its answer, once the follower has read it back.

        What ``decide`` raises is raised; it may be called several times, with newer logs. Raises RetriableError when
        the write's outcome stays unknown.
        """
        async with self._turn:
            known = await self._undisputed(decide)
            if known is not None:
                return known.answer
            attempted: Change | None = None
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    writer = await self._claimed()
                    if attempted is not None and fold(self._follower.log, attempted.records) == self._follower.log:
                        return attempted.answer  # the write whose outcome was unknown stands in the log
                    attempted = decide(self._follower.log)
                    await self._write(writer, attempted)
                except RetriableError as error:
                    await self.stop()
                    if attempt == ATTEMPTS:
                        raise
                    log.info("the schemas are claimed and read anew: %s", error)
                    await asyncio.sleep(BACK_OFF_S * attempt * random.random())
                except asyncio.CancelledError:  # a write may be under way: nobody decides again under this claim
                    await self.stop()
                    raise
                else:
                    return attempted.answer
        raise InvariantError("unreachable")

    async def _undisputed(self, decide: Callable[[SchemaLog], Change]) -> Change | None:
        """The outcome of a change that writes nothing and needs no claim; only the newest log refuses."""
        with contextlib.suppress(RegistryError):
            found = decide(self._follower.log)
            if not found.records:
                return found
        await self._follower.catch_up()
        found = decide(self._follower.log)
        return None if found.records else found

    async def _write(self, writer: FencedWriter, change: Change) -> None:
        if change.records:
            _, end = await writer.confirm(await writer.submit([(key, value, ()) for key, value in change.records]))
            await self._follower.wait_for_offset(end - 1)

    async def stop(self) -> None:
        """Close the connection of the claim; the next change claims anew."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.stop()

    async def _claimed(self) -> FencedWriter:
        """A claim under which the log was read to its end."""
        if self._writer is not None and self._writer.age_s > RENEW_AFTER_S:
            await self.stop()
        if self._writer is None:
            writer = await FencedWriter.claim(self._connection, SCHEMAS_TOPIC, 0)
            try:
                await self._follower.catch_up()
            except BaseException:  # also a cancelled one: a claim without the log's end is worth nothing
                await writer.stop()
                raise
            self._writer = writer
        return self._writer
