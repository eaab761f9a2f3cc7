"""Take a process that died out of its consumer group, so that its partitions do not wait for the session time-out.

A member that is gone without a word keeps its partitions until the broker has not heard of it for a session, and no
rebalance of its group ends before. So a member notes its id in a file, and the process that is started in its place
says goodbye for it, before it does anything else. Where the note is old, the broker knows no such member and nothing
happens; where its writer lives after all, it joins again.
"""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from streams.connection import Connection, TimedOutError, bounded, stop_quietly

log = logging.getLogger(__name__)

GOODBYE_S: Final = 3.0


class MemberNote:
    """The file in which one process notes who it is in its group."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, group: str, member_id: str) -> None:
        """Note the member; a note that cannot be written costs a session time-out and nothing else."""
        partial = self._path.with_suffix(".member-new")
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps({"group": group, "member_id": member_id}))
            partial.replace(self._path)

    def read(self) -> tuple[str, str] | None:
        """Group and member id; None where nothing of use is noted."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self._path.read_text())
            group, member_id = noted["group"], noted["member_id"]
            if isinstance(group, str) and isinstance(member_id, str) and group and member_id:
                return group, member_id
        return None

    async def leave(self, connection: Connection) -> bool:
        """Take the noted member out of its group; whether it was in it. What fails is logged: the time-out remains."""
        noted = self.read()
        if noted is None:
            return False
        self._path.unlink(missing_ok=True)
        group, member_id = noted
        client = AIOKafkaClient(bootstrap_servers=connection.bootstrap, **connection.security())
        try:
            left = await bounded(_leave(client, group, member_id), GOODBYE_S, "leaving the group for the predecessor")
        except (KafkaError, OSError, TimedOutError) as error:
            log.info("the predecessor in %s waits for its time-out: %s", group, error)
            return False
        finally:
            await stop_quietly(_Closing(client))
        if left:
            log.info("took the predecessor out of %s", group)
        return left


async def _leave(client: AIOKafkaClient, group: str, member_id: str) -> bool:
    await client.bootstrap()
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    await client.ready(node, group=ConnectionGroup.COORDINATION)
    answer = await client.send(node, LeaveGroupRequest(group, member_id), group=ConnectionGroup.COORDINATION)
    return int(answer.error_code) == 0


class _Closing:
    """A client that is stopped by closing it."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def stop(self) -> None:
        """Close."""
        await self._client.close()
