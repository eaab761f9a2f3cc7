"""Requests and answers of the schema registry: bodies and flags in, JSON with the registry's media type out."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from streams.errors import RetriableError
from streams.registry import rules as rules
from streams.registry.rules import RegistryError
from streams.registry.schema_log import SchemaVersion

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
STORE_FAILED: Final = 50001

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


def reply(body: Any, status: int = 200) -> web.Response:
    """A JSON answer with the registry's media type."""
    return web.Response(text=json.dumps(body), status=status, content_type=MEDIA_TYPE)


@web.middleware
async def answer_errors(request: web.Request, handler: Reply) -> web.StreamResponse:
    """Every refusal has the body ``{"error_code", "message"}``; a defect has a sentence and stands in the log."""
    try:
        return await handler(request)
    except RegistryError as error:
        return reply({"error_code": error.code, "message": error.message}, error.status)
    except web.HTTPException as error:
        return reply({"error_code": error.status, "message": f"HTTP {error.status} {error.reason}"}, error.status)
    except RetriableError as error:
        return reply({"error_code": STORE_FAILED, "message": f"The schema log did not answer: {error}"}, 500)
    except Exception:  # the client gets a sentence and no trace; the defect is logged with its trace
        log.exception("a request to %s met a defect of ours", request.path)
        return reply({"error_code": 500, "message": "The registry met a defect; its log has the details."}, 500)


def described(entry: SchemaVersion) -> dict[str, Any]:
    """A version as clients expect it."""
    return {
        "subject": entry.subject,
        "version": entry.version,
        "id": entry.schema_id,
        "guid": rules.guid_of(entry),
        "schemaType": "AVRO",
        "schema": entry.text,
    }


def flag(request: web.Request, name: str) -> bool:
    """Whether a query parameter is true."""
    return request.query.get(name, "").lower() == "true"


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that a request holds; 42201 when it holds none."""
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise RegistryError(422, rules.INVALID_SCHEMA, "The body is not a JSON object.")
    return body


async def schema_text(request: web.Request) -> str:
    """The Avro schema that a request asks about; 42201 when it holds none, 42205 when it names its own id."""
    body = await body_of(request)
    text = body.get("schema")
    if not isinstance(text, str):
        raise RegistryError(422, rules.INVALID_SCHEMA, "The body is not JSON with a schema.")
    if (body.get("schemaType") or "AVRO") != "AVRO":
        raise RegistryError(422, rules.INVALID_SCHEMA, "Only Avro schemas are held here.")
    if body.get("references"):
        message = "Schemas that refer to other subjects are not held here: spell the types out."
        raise RegistryError(422, rules.INVALID_SCHEMA, message)
    if (body.get("id") or -1) != -1 or (body.get("version") or -1) != -1:
        message = "Ids and versions are handed out here: a registration may not name its own."
        raise RegistryError(422, rules.NOT_PERMITTED, message)
    return text
