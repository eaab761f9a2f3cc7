"""Which test left a connection to a broker open: without this, whoever runs when it is collected is blamed."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.conn import AIOKafkaConnection


class Connections:
    """aiokafka's connections made while this watches, each with where it was made; holds none of them alive."""

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[AIOKafkaConnection, str] = weakref.WeakKeyDictionary()

    def note(self, connection: AIOKafkaConnection) -> None:
        """Remember a connection and its maker."""
        self._made[connection] = "".join(traceback.format_stack(limit=16)[:-2])

    def left(self) -> list[str]:
        """What is still open, each as address and maker; told once."""
        found = []
        for connection, maker in list(self._made.items()):
            if connection.connected():
                found.append(f"{connection.host}:{connection.port}, made at\n{maker}")
                connection._reader = None  # told; its collection is not to be told of again, in another test
                del self._made[connection]
        return found


@contextmanager
def watched() -> Iterator[Connections]:
    """Note every connection that is made inside."""
    connections, plain = Connections(), AIOKafkaConnection.__init__

    def noting(self: AIOKafkaConnection, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        connections.note(self)

    AIOKafkaConnection.__init__ = noting
    try:
        yield connections
    finally:
        AIOKafkaConnection.__init__ = plain
