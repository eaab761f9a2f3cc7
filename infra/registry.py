"""The schema registry over HTTP: Confluent's REST subset, read and write, over the ``_schemas`` topic.

It holds no state of its own: a killed one comes back with the same ids, several at once answer and change the same log,
and all our processes read ``_schemas`` themselves, so it may be down. What it answers is in ``streams.registry.rules``,
the routes are in ``infra.registry_routes``; this module runs them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from infra.registry_reply import answer_errors
from infra.registry_routes import MAX_BODY_BYTES, routes
from streams.connection import Connection
from streams.registry.changes import Change
from streams.registry.schema_follower import SchemaFollower
from streams.registry.schema_log import SchemaLog
from streams.registry.schema_writer import SchemaWriter

HOST: Final = "127.0.0.1"
READY_TIMEOUT_S: Final = 20.0


class LogSchemas:
    """The schemas of a broker, as the routes use them."""

    def __init__(self, connection: Connection) -> None:
        self._follower = SchemaFollower(connection)
        self._writer = SchemaWriter(connection, self._follower)

    @property
    def log(self) -> SchemaLog:
        """What is registered, as of a moment ago."""
        return self._follower.log

    async def change(self, decide: Callable[[SchemaLog], Change]) -> Any:
        """Make a change and return its answer, which ``log`` shows then. Raises RegistryError, RetriableError."""
        return await self._writer.change(decide)

    async def catch_up(self) -> None:
        """Read everything that is registered as of now. Raises RetriableError."""
        await self._follower.catch_up()

    async def start(self, timeout_s: float) -> None:
        """Read the log to its end. Raises WatchTimeoutError."""
        await self._follower.start(timeout_s)

    async def stop(self) -> None:
        """Stop reading and writing."""
        await self._writer.stop()
        await self._follower.stop()


def application(schemas: Any) -> web.Application:
    """HTTP application over ``schemas`` (``infra.registry_routes.Schemas``)."""
    app = web.Application(middlewares=[answer_errors], client_max_size=MAX_BODY_BYTES)
    app.add_routes(routes(schemas))
    return app


async def run(connection: Connection, port: int, on_ready: Callable[[], None], host: str = HOST) -> None:
    """Serve on ``host:port`` until cancelled; ``on_ready`` is called once the log was read and the port is open.

    Raises RetriableError when the log cannot be read in time, OSError when the port is taken.
    """
    schemas = LogSchemas(connection)
    runner = web.AppRunner(application(schemas), access_log=None, shutdown_timeout=1.0)
    try:
        await schemas.start(READY_TIMEOUT_S)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        on_ready()
        await asyncio.Event().wait()
    finally:
        await schemas.stop()
        await runner.cleanup()
