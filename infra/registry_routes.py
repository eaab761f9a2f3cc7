"""Routes of the schema registry: which path asks or changes what. Paths are those that Confluent's clients use."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from aiohttp import web

from infra.registry_reply import MEDIA_TYPE, Reply, body_of, described, flag, reply, schema_text
from streams.registry import changes as changes
from streams.registry import rules as rules
from streams.registry.changes import Change
from streams.registry.rules import EVERYBODY, RegistryError
from streams.registry.schema_log import SchemaLog, SchemaVersion
from streams.registry.schema_watch import RateLimit

MAX_BODY_BYTES: Final = 1 << 20
LOOKS_PER_S: Final = 10.0
"""Looks at the log's end for an id that another registry may have given out a moment ago."""


class Schemas(Protocol):
    """What is registered, and how it is changed (``infra.registry.LogSchemas``)."""

    @property
    def log(self) -> SchemaLog:
        """What is registered, as of a moment ago."""

    async def change(self, decide: Callable[[SchemaLog], Change]) -> Any:
        """Make a change and return its answer, which ``log`` shows then."""

    async def catch_up(self) -> None:
        """Read everything that is registered as of now."""


def routes(schemas: Schemas) -> list[web.RouteDef]:
    """Every route of the registry."""
    return [
        *_subject_routes(schemas),
        *_schema_routes(schemas),
        *_listing_routes(schemas),
        *_setting_routes(schemas),
        *_compatibility(schemas),
    ]


def _subject_routes(schemas: Schemas) -> list[web.RouteDef]:
    """What is asked and changed by subject."""

    async def subjects(request: web.Request) -> web.Response:
        prefix = request.query.get("subjectPrefix", "").removeprefix(":*:").removeprefix(":.:")
        found = schemas.log.subjects(deleted=flag(request, "deleted"))
        return reply([name for name in found if name.startswith(prefix)])

    async def versions(request: web.Request) -> web.Response:
        found = rules.versions_of(schemas.log, _subject(request), deleted=flag(request, "deleted"))
        return reply([entry.version for entry in found])

    async def version(request: web.Request) -> web.Response:
        return reply(described(_version(schemas.log, request)))

    async def version_schema(request: web.Request) -> web.Response:
        return web.Response(text=_version(schemas.log, request).text, content_type=MEDIA_TYPE)

    async def referenced_by(request: web.Request) -> web.Response:
        _version(schemas.log, request)
        return reply([])

    async def lookup(request: web.Request) -> web.Response:
        text = await schema_text(request)
        return reply(
            described(rules.find_schema(schemas.log, _subject(request), text, deleted=flag(request, "deleted")))
        )

    async def register(request: web.Request) -> web.Response:
        text = await schema_text(request)
        return reply(described(await schemas.change(lambda log: changes.register(log, _subject(request), text))))

    async def delete_subject(request: web.Request) -> web.Response:
        permanent = flag(request, "permanent")
        decide = partial(changes.delete_subject, subject=_subject(request), permanent=permanent)
        return reply(await schemas.change(decide))

    async def delete_version(request: web.Request) -> web.Response:
        subject, wanted, permanent = _subject(request), request.match_info["version"], flag(request, "permanent")
        return reply(
            await schemas.change(lambda log: changes.delete_version(log, subject, wanted, permanent=permanent))
        )

    return [
        web.get("/subjects", subjects),
        web.post("/subjects/{subject}", lookup),
        web.delete("/subjects/{subject}", delete_subject),
        web.get("/subjects/{subject}/versions", versions),
        web.post("/subjects/{subject}/versions", register),
        web.get("/subjects/{subject}/versions/{version}", version),
        web.delete("/subjects/{subject}/versions/{version}", delete_version),
        web.get("/subjects/{subject}/versions/{version}/schema", version_schema),
        web.get("/subjects/{subject}/versions/{version}/referencedby", referenced_by),
    ]


def _subject(request: web.Request) -> str:
    return request.match_info["subject"]


def _version(log: SchemaLog, request: web.Request) -> SchemaVersion:
    return rules.version_of(log, _subject(request), request.match_info["version"], deleted=flag(request, "deleted"))


def _schema_routes(schemas: Schemas) -> list[web.RouteDef]:
    """What is asked by id or by identifier."""
    looks = RateLimit(LOOKS_PER_S, time.monotonic)

    async def find(ask: Callable[[SchemaLog], Any]) -> Any:
        """The answer, from a newer log if the first does not hold it: another registry may have given the id out."""
        try:
            return ask(schemas.log)
        except RegistryError:
            if not looks.take():
                raise
        await schemas.catch_up()
        return ask(schemas.log)

    async def by_id(request: web.Request) -> list[SchemaVersion]:
        wanted = request.match_info["id"]
        found: list[SchemaVersion] = await find(lambda log: rules.schema_of(log, wanted))
        return found

    async def schema(request: web.Request) -> web.Response:
        found = await by_id(request)
        named = [entry for entry in found if entry.subject == request.query.get("subject")]
        entry = (named or found)[0]
        more = {"maxId": schemas.log.next_id - 1} if flag(request, "fetchMaxId") else {}
        return reply({"schemaType": "AVRO", "schema": entry.text, "guid": rules.guid_of(entry), **more})

    async def schema_only(request: web.Request) -> web.Response:
        return web.Response(text=(await by_id(request))[0].text, content_type=MEDIA_TYPE)

    async def subjects(request: web.Request) -> web.Response:
        return reply(sorted({entry.subject for entry in _shown(request, await by_id(request))}))

    async def versions(request: web.Request) -> web.Response:
        found = _shown(request, await by_id(request))
        return reply([{"subject": entry.subject, "version": entry.version} for entry in found])

    async def by_guid(request: web.Request) -> web.Response:
        wanted = request.match_info["guid"]
        entry = await find(lambda log: rules.schema_by_guid(log, wanted))
        return reply({"schemaType": "AVRO", "schema": entry.text, "guid": rules.guid_of(entry)})

    async def ids_of_guid(request: web.Request) -> web.Response:
        wanted = request.match_info["guid"]
        entry = await find(lambda log: rules.schema_by_guid(log, wanted))
        return reply([{"context": ".", "id": entry.schema_id}])

    return [
        web.get("/schemas/ids/{id}", schema),
        web.get("/schemas/ids/{id}/schema", schema_only),
        web.get("/schemas/ids/{id}/subjects", subjects),
        web.get("/schemas/ids/{id}/versions", versions),
        web.get("/schemas/guids/{guid}", by_guid),
        web.get("/schemas/guids/{guid}/ids", ids_of_guid),
    ]


def _listing_routes(schemas: Schemas) -> list[web.RouteDef]:
    """What there is in all."""

    async def every(request: web.Request) -> web.Response:
        prefix, latest = request.query.get("subjectPrefix", ""), flag(request, "latestOnly")
        found: list[SchemaVersion] = []
        for name in schemas.log.subjects(deleted=flag(request, "deleted")):
            if name.startswith(prefix):
                entries = schemas.log.of(name, deleted=flag(request, "deleted"))
                found += entries[-1:] if latest else entries
        return reply([described(entry) for entry in found])

    return [
        web.get("/schemas", every),
        web.get("/schemas/types", _fixed(["AVRO"])),
        web.get("/contexts", _fixed(["."])),
        web.get("/", _fixed({})),
    ]


def _shown(request: web.Request, found: list[SchemaVersion]) -> list[SchemaVersion]:
    return [entry for entry in found if not entry.deleted or flag(request, "deleted")]


def _fixed(body: Any) -> Reply:
    """An answer that never changes."""

    async def answer(_: web.Request) -> web.Response:
        return reply(body)

    return answer


def _setting_routes(schemas: Schemas) -> list[web.RouteDef]:
    """Compatibility level and mode, of a subject or of everybody."""

    def named(request: web.Request) -> str:
        return request.match_info.get("subject", EVERYBODY)

    async def level(request: web.Request) -> web.Response:
        ask = rules.level_of if flag(request, "defaultToGlobal") else rules.level_set
        return reply({"compatibilityLevel": ask(schemas.log, named(request))})

    async def set_level(request: web.Request) -> web.Response:
        wanted = (await body_of(request)).get("compatibility")
        return reply(
            {"compatibility": await schemas.change(lambda log: changes.set_level(log, named(request), wanted))}
        )

    async def unset_level(request: web.Request) -> web.Response:
        return reply({"compatibilityLevel": await schemas.change(lambda log: changes.unset_level(log, named(request)))})

    async def mode(request: web.Request) -> web.Response:
        ask = rules.mode_of if flag(request, "defaultToGlobal") else rules.mode_set
        return reply({"mode": ask(schemas.log, named(request))})

    async def set_mode(request: web.Request) -> web.Response:
        wanted = (await body_of(request)).get("mode")
        return reply({"mode": await schemas.change(lambda log: changes.set_mode(log, named(request), wanted))})

    async def unset_mode(request: web.Request) -> web.Response:
        return reply({"mode": await schemas.change(lambda log: changes.unset_mode(log, named(request)))})

    both: list[web.RouteDef] = []
    for noun, ask, put, unset in (("config", level, set_level, unset_level), ("mode", mode, set_mode, unset_mode)):
        for path in (f"/{noun}", f"/{noun}/{{subject}}"):
            both += [web.get(path, ask), web.put(path, put), web.delete(path, unset)]
    return both


def _compatibility(schemas: Schemas) -> list[web.RouteDef]:
    """Whether a schema may follow what a subject holds."""

    async def with_one(request: web.Request) -> web.Response:
        text = await schema_text(request)
        return verdict(request, text, [_version(schemas.log, request)])

    async def with_all(request: web.Request) -> web.Response:
        text = await schema_text(request)
        return verdict(request, text, schemas.log.of(_subject(request)))

    def verdict(request: web.Request, text: str, versions: list[SchemaVersion]) -> web.Response:
        reasons = rules.incompatibilities(schemas.log, _subject(request), text, versions)
        more = {"messages": list(reasons)} if flag(request, "verbose") else {}
        return reply({"is_compatible": not reasons, **more})

    return [
        web.post("/compatibility/subjects/{subject}/versions", with_all),
        web.post("/compatibility/subjects/{subject}/versions/{version}", with_one),
    ]
