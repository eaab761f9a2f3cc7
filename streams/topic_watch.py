"""Is the requests topic still the one this process began with? A re-created topic has another id, and other requests.

A topic's id is asked of the broker every few seconds, in a thread, and at once whenever there is a doubt. A process
that finds another id ends (exit status 75) and begins anew with the new one. The edge's consumer group carries the id
in its name, so that offsets committed for the old topic are never applied to the new one: an offset that happens to
lie inside the new log would skip requests without a sign.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from streams.connection import Connection
from streams.errors import RetriableError
from streams.provision import topic_ids

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
CLOCKS_APART_US: Final = 1_000_000
"""How far the clocks of two processes of ours may differ."""

EDGE_GROUP: Final = "isos-edge"


class TopicRecreatedError(RetriableError):
    """``topic`` (short name) has another id now: it was deleted and created again."""

    def __init__(self, topic: str, old_id: bytes, new_id: bytes) -> None:
        super().__init__(topic, old_id, new_id)
        self.topic = topic
        self.old_id = old_id
        self.new_id = new_id

    def __str__(self) -> str:
        return f"topic {self.topic} was re-created: its id was {self.old_id.hex()} and is {self.new_id.hex()} now"


def edge_group(topic_id: bytes) -> str:
    """Name of the edge's consumer group for a requests topic: another topic, other offsets."""
    return f"{EDGE_GROUP}-{topic_id.hex()}"


class TopicWatch:
    """Compares the id of ``topic`` (short name) with ``topic_id``, the one that this process took it for."""

    def __init__(self, connection: Connection, topic: str, topic_id: bytes) -> None:
        self._connection = connection
        self._topic = topic
        self._topic_id = topic_id
        self._looked_us = 0

    async def run(self) -> None:
        """Look every two seconds until cancelled. Raises TopicRecreatedError."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except TopicRecreatedError:
                raise
            except RetriableError as error:  # a broker that does not answer, or a topic between its two lives
                log.warning("the id of %s is not known: %s", self._topic, error)

    async def confirm(self, since_us: int) -> None:
        """Return when a look that began after ``since_us`` (us since the epoch) has found the old id.

        For something that names another id and was made at that time: then the other one is the older. Raises like
        ``look``.
        """
        if self._looked_us <= since_us + CLOCKS_APART_US:
            await self.look()

    async def look(self) -> None:
        """Ask for the id now. Raises TopicRecreatedError; RetriableError when the broker does not answer."""
        began_us = time.time_ns() // 1000
        found = (await topic_ids(self._connection, [self._topic]))[self._topic]
        if found != self._topic_id:
            raise TopicRecreatedError(self._topic, self._topic_id, found)
        self._looked_us = max(self._looked_us, began_us)


class Doubt:
    """Whether something happened that deleting a topic brings about; ``settle`` asks for its id before going on.

    The broker tells a reader at once that it has no such partition, and the reader asks for new metadata: ``follow``
    listens for that. What is read after it may be another topic's.
    """

    def __init__(self, watch: TopicWatch) -> None:
        self._watch = watch
        self._raised = False

    def follow(self, consumer: Any) -> None:
        """Listen to a started consumer."""
        client = consumer._client  # aiokafka tells nobody else
        ask = client.force_metadata_update

        def asked() -> Any:
            self._raised = True
            return ask()

        client.force_metadata_update = asked

    def rise(self) -> None:
        """Note another reason, such as a rebalance, or a log that went back."""
        self._raised = True

    async def settle(self) -> None:
        """Look for the topic's id if there is a doubt. Raises like ``TopicWatch.look``."""
        while self._raised:
            self._raised = False
            await self._watch.look()
