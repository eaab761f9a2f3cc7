"""The schema registry over HTTP: Confluent's REST subset, read-only, over the ``_schemas`` topic.

Third-party serializers with ``auto.register.schemas=False`` and deserializers work against it unchanged. It holds no
state of its own, and all our processes read ``_schemas`` themselves, so it may be down. Error bodies are
``{"error_code", "message"}`` with Confluent's numbers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiokafka.errors import KafkaError

from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.errors import RetriableError
from streams.schema_log import PARTITION, SchemaLog, SchemaVersion, fold
from streams.schema_text import SchemaRefusedError

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
HOST: Final = "127.0.0.1"
MAX_BODY_BYTES: Final = 1 << 20
POLL_MS: Final = 500
READY_TIMEOUT_S: Final = 20.0
RETRY_S: Final = 1.0
LATEST: Final = -1

SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402
SCHEMA_NOT_FOUND: Final = 40403
INVALID_SCHEMA: Final = 42201
INVALID_VERSION: Final = 42202
READ_ONLY: Final = 42205

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RegistryError(Exception):
    """A refused request: HTTP status, Confluent's error code and one sentence."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message


class Registry:
    """The view of the schema log that requests are answered from."""

    def __init__(self, log: SchemaLog | None = None) -> None:
        self.log = log or SchemaLog()

    def subject(self, name: str) -> list[SchemaVersion]:
        """Live versions of a subject; RegistryError 40401 when there is none."""
        found = self.log.of(name)
        if not found:
            raise RegistryError(404, SUBJECT_NOT_FOUND, f"Subject '{name}' not found.")
        return found

    def version(self, name: str, wanted: str) -> SchemaVersion:
        """Version of a subject by number, ``latest`` or -1."""
        found = self.subject(name)
        try:
            number = LATEST if wanted == "latest" else int(wanted)
        except ValueError:
            number = 0
        if number == LATEST:
            return found[-1]
        if number < 1:
            raise RegistryError(422, INVALID_VERSION, f"The specified version '{wanted}' is not a valid version id.")
        for entry in found:
            if entry.version == number:
                return entry
        raise RegistryError(404, VERSION_NOT_FOUND, f"Version {number} not found.")

    def schema(self, wanted: str) -> list[SchemaVersion]:
        """Every version with an id; RegistryError 40403 when there is none."""
        found = self.log.by_id(int(wanted)) if wanted.isdecimal() else []
        if not found:
            raise RegistryError(404, SCHEMA_NOT_FOUND, f"Schema {wanted} not found")
        return found

    def lookup(self, name: str, text: str) -> SchemaVersion | None:
        """Version of a subject that holds this schema, however it is spelled; RegistryError 42201 for no schema."""
        try:
            return self.log.find(name, text)
        except SchemaRefusedError as error:
            raise RegistryError(422, INVALID_SCHEMA, f"Invalid schema: {error}") from None


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type=MEDIA_TYPE)


def _fixed(body: Any) -> Reply:
    """An answer that never changes."""

    async def answer(_: web.Request) -> web.Response:
        return _json(body)

    return answer


def _described(entry: SchemaVersion) -> dict[str, Any]:
    return {"subject": entry.subject, "id": entry.schema_id, "version": entry.version, "schema": entry.text}


async def _schema_text(request: web.Request) -> str:
    try:
        body = json.loads(await request.text())
        text = body["schema"]
    except (ValueError, KeyError, TypeError):
        raise RegistryError(422, INVALID_SCHEMA, "The body is not JSON with a schema.") from None
    if not isinstance(text, str) or body.get("schemaType", "AVRO") != "AVRO":
        raise RegistryError(422, INVALID_SCHEMA, "Only Avro schemas are held here.")
    return text


@web.middleware
async def _errors(request: web.Request, handler: Reply) -> web.StreamResponse:
    try:
        return await handler(request)
    except RegistryError as error:
        return _json({"error_code": error.code, "message": error.message}, error.status)
    except web.HTTPException as error:
        return _json({"error_code": error.status, "message": f"HTTP {error.status} {error.reason}"}, error.status)


def _subject_routes(registry: Registry) -> list[web.RouteDef]:
    """What is asked by subject; a POST only finds what is there."""

    async def subjects(_: web.Request) -> web.Response:
        return _json(registry.log.subjects())

    async def versions(request: web.Request) -> web.Response:
        return _json([entry.version for entry in registry.subject(request.match_info["subject"])])

    async def version(request: web.Request) -> web.Response:
        return _json(_described(registry.version(request.match_info["subject"], request.match_info["version"])))

    async def version_schema(request: web.Request) -> web.Response:
        entry = registry.version(request.match_info["subject"], request.match_info["version"])
        return web.Response(text=entry.text, content_type=MEDIA_TYPE)

    async def lookup(request: web.Request) -> web.Response:
        name = request.match_info["subject"]
        text = await _schema_text(request)
        registry.subject(name)
        entry = registry.lookup(name, text)
        if entry is None:
            raise RegistryError(404, SCHEMA_NOT_FOUND, "Schema not found")
        return _json(_described(entry))

    async def register(request: web.Request) -> web.Response:
        name = request.match_info["subject"]
        entry = registry.lookup(name, await _schema_text(request))
        if entry is None:
            raise RegistryError(422, READ_ONLY, f"Subject {name} is in read-only mode")
        return _json({"id": entry.schema_id})

    return [
        web.get("/subjects", subjects),
        web.get("/subjects/{subject}/versions", versions),
        web.get("/subjects/{subject}/versions/{version}", version),
        web.get("/subjects/{subject}/versions/{version}/schema", version_schema),
        web.post("/subjects/{subject}", lookup),
        web.post("/subjects/{subject}/versions", register),
    ]


def _schema_routes(registry: Registry) -> list[web.RouteDef]:
    """What is asked by id."""

    async def schema(request: web.Request) -> web.Response:
        return _json({"schema": registry.schema(request.match_info["id"])[0].text})

    async def schema_only(request: web.Request) -> web.Response:
        return web.Response(text=registry.schema(request.match_info["id"])[0].text, content_type=MEDIA_TYPE)

    async def schema_versions(request: web.Request) -> web.Response:
        live = [entry for entry in registry.schema(request.match_info["id"]) if not entry.deleted]
        return _json([{"subject": entry.subject, "version": entry.version} for entry in live])

    return [
        web.get("/schemas/ids/{id}", schema),
        web.get("/schemas/ids/{id}/schema", schema_only),
        web.get("/schemas/ids/{id}/versions", schema_versions),
    ]


def application(registry: Registry) -> web.Application:
    """HTTP application that answers from ``registry``."""
    config, mode = _fixed({"compatibilityLevel": "FULL_TRANSITIVE"}), _fixed({"mode": "READONLY"})
    app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY_BYTES)
    app.add_routes(_subject_routes(registry))
    app.add_routes(_schema_routes(registry))
    app.add_routes(
        [
            web.get("/", _fixed({})),
            web.get("/schemas/types", _fixed(["AVRO"])),
            web.get("/config", config),
            web.get("/config/{subject}", config),
            web.get("/mode", mode),
            web.get("/mode/{subject}", mode),
        ]
    )
    return app


async def follow(connection: Connection, registry: Registry, caught_up: asyncio.Event) -> None:
    """Fold the schema log into ``registry`` for ever; sets ``caught_up`` when the end of the start was reached."""
    while True:
        client = consumer(connection)
        try:
            await start(client, "connecting the registry")
            await _follow(client, registry, caught_up)
        except (KafkaError, RetriableError):
            await asyncio.sleep(RETRY_S)  # the broker is away: what is known stays served
        finally:
            await stop_quietly(client)


async def _follow(client: Any, registry: Registry, caught_up: asyncio.Event) -> None:
    client.assign([PARTITION])
    await client.seek_to_beginning(PARTITION)
    end = (await client.end_offsets([PARTITION]))[PARTITION]
    log = SchemaLog()
    while True:
        batches = await client.getmany(PARTITION, timeout_ms=POLL_MS if caught_up.is_set() else 50)
        log = fold(log, ((record.key, record.value) for record in batches.get(PARTITION, ())))
        if await client.position(PARTITION) >= end:
            registry.log = log
            caught_up.set()


async def run(connection: Connection, port: int, on_ready: Callable[[], None], host: str = HOST) -> None:
    """Serve on ``host:port`` until cancelled; ``on_ready`` is called once the log was read and the port is open.

    Raises TimedOutError when the log cannot be read in time, OSError when the port is taken.
    """
    registry, caught_up = Registry(), asyncio.Event()
    following = asyncio.create_task(follow(connection, registry, caught_up))
    runner = web.AppRunner(application(registry), access_log=None, shutdown_timeout=1.0)
    try:
        await bounded(caught_up.wait(), READY_TIMEOUT_S, "reading the schemas")
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        on_ready()
        await following
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await runner.cleanup()
