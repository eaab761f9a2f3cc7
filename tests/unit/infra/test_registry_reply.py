"""Bodies in, answers out: every failure has the two fields that clients look for, and never a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from infra.registry_reply import answer_errors, described, flag, reply, schema_text
from streams.connection import TimedOutError
from streams.registry.rules import RegistryError
from streams.registry.schema_log import SchemaVersion


async def answer_to(raised: Exception) -> tuple[int, dict[str, Any], str]:
    async def handler(_: web.Request) -> web.Response:
        raise raised

    app = web.Application(middlewares=[answer_errors])
    app.add_routes([web.get("/x", handler)])
    async with TestClient(TestServer(app)) as client, client.get("/x") as answer:
        return answer.status, await answer.json(content_type=None), await answer.text()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RegistryError(422, 42201, "no schema"), (422, 42201)),
        (TimedOutError("reading the newest schemas", 10.0), (500, 50001)),
        (web.HTTPTooManyRequests(), (429, 429)),
        (ZeroDivisionError("in /some/where.py"), (500, 500)),
    ],
)
async def test_failures(raised: Exception, expected: tuple[int, int]) -> None:
    status, body, text = await answer_to(raised)
    assert (status, body["error_code"]) == expected
    assert set(body) == {"error_code", "message"}
    assert body["message"]
    assert "Traceback" not in text
    assert "where.py" not in text


def test_flags() -> None:
    assert flag(make_mocked_request("GET", "/x?permanent=True"), "permanent")
    for query in ("", "?permanent=1", "?permanent=false", "?other=true"):
        assert not flag(make_mocked_request("GET", f"/x{query}"), "permanent")


def test_a_version_as_clients_expect_it() -> None:
    made = described(SchemaVersion("s", 2, 7, '"long"', '"long"'))
    assert (made["subject"], made["version"], made["id"], made["schemaType"]) == ("s", 2, 7, "AVRO")
    assert json.loads(reply(made).text or "") == made


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *(("", 42201), ("[]", 42201), ("{}", 42201), ('{"schema":7}', 42201), ("[" * 100_000, 42201)),
        *(('{"schema":"x","schemaType":"JSON"}', 42201), ('{"schema":"x","references":[{"name":"r"}]}', 42201)),
        *(('{"schema":"x","id":4}', 42205), ('{"schema":"x","version":4}', 42205)),
    ],
)
async def test_a_body_without_a_schema(body: str, code: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return reply(await schema_text(request))

    app = web.Application(middlewares=[answer_errors])
    app.add_routes([web.post("/x", handler)])
    async with TestClient(TestServer(app)) as client:
        async with client.post("/x", data=body) as answer:
            assert (answer.status, (await answer.json(content_type=None))["error_code"]) == (422, code)
        good = '{"schema":"x","schemaType":null,"references":[],"id":-1,"version":0}'
        async with client.post("/x", data=good) as answer:
            assert (answer.status, await answer.json(content_type=None)) == (200, "x")
