"""The registry's answers, over HTTP but without a broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from infra.registry import Registry, application
from streams.codec import SCHEMA_TEXTS, subject_of
from streams.schema_log import SchemaLog, SchemaVersion, fold, missing, schema_record

S = subject_of("inference.requests")
OURS = SCHEMA_TEXTS["InferenceRequest"]


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    log = fold(SchemaLog(), map(schema_record, missing(SchemaLog())))
    second = SchemaVersion(S, 2, 90, '"long"', '"long"')
    gone = SchemaVersion(S, 3, 91, '"int"', '"int"', deleted=True)
    registry = Registry(fold(log, map(schema_record, (second, gone))))
    async with TestClient(TestServer(application(registry))) as running:
        yield running


async def get(client: Any, path: str) -> tuple[int, Any]:
    async with client.get(path) as reply:
        assert reply.content_type == "application/vnd.schemaregistry.v1+json"
        return reply.status, json.loads(await reply.text())


async def post(client: Any, path: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, data=body if isinstance(body, str) else json.dumps(body)) as reply:
        return reply.status, json.loads(await reply.text())


async def test_subjects_and_versions(client: Any) -> None:
    status, subjects = await get(client, "/subjects")
    assert status == 200
    assert S in subjects
    assert await get(client, f"/subjects/{S}/versions") == (200, [1, 2])
    _, first = await get(client, f"/subjects/{S}/versions/1")
    assert (first["subject"], first["version"], first["id"]) == (S, 1, 1)
    assert json.loads(first["schema"]) == json.loads(OURS)
    assert (await get(client, f"/subjects/{S}/versions/latest"))[1]["id"] == 90
    assert (await get(client, f"/subjects/{S}/versions/-1"))[1]["version"] == 2
    assert await get(client, f"/subjects/{S}/versions/2/schema") == (200, "long")


async def test_schemas_by_id(client: Any) -> None:
    assert json.loads((await get(client, "/schemas/ids/1"))[1]["schema"]) == json.loads(OURS)
    assert (await get(client, "/schemas/ids/1/schema"))[1]["name"] == "InferenceRequest"
    assert await get(client, "/schemas/ids/1/versions") == (200, [{"subject": S, "version": 1}])
    assert await get(client, "/schemas/ids/91/versions") == (200, [])  # deleted, yet its id stays readable
    assert (await get(client, "/schemas/ids/91"))[0] == 200


async def test_lookup_and_registration_of_what_is_there(client: Any) -> None:
    respelled = json.dumps(json.loads(OURS), indent=7, sort_keys=True)
    status, found = await post(client, f"/subjects/{S}", {"schema": respelled})
    assert (status, found["id"], found["version"]) == (200, 1, 1)
    assert await post(client, f"/subjects/{S}/versions", {"schema": respelled}) == (200, {"id": 1})


async def test_it_is_read_only_and_says_so(client: Any) -> None:
    status, error = await post(client, f"/subjects/{S}/versions", {"schema": '"double"'})
    assert (status, error["error_code"]) == (422, 42205)
    assert "read-only" in error["message"]
    assert await get(client, "/mode") == (200, {"mode": "READONLY"})
    assert await get(client, "/config") == (200, {"compatibilityLevel": "FULL_TRANSITIVE"})
    assert await get(client, "/schemas/types") == (200, ["AVRO"])
    async with client.delete(f"/subjects/{S}") as reply:
        assert reply.status == 405


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/subjects/nope/versions", (404, 40401)),
        ("/subjects/nope/versions/1", (404, 40401)),
        (f"/subjects/{S}/versions/3", (404, 40402)),
        (f"/subjects/{S}/versions/0", (422, 42202)),
        (f"/subjects/{S}/versions/x", (422, 42202)),
        ("/schemas/ids/999", (404, 40403)),
        ("/schemas/ids/x", (404, 40403)),
        ("/nothing", (404, 404)),
    ],
)
async def test_errors_have_the_numbers_clients_know(client: Any, path: str, expected: tuple[int, int]) -> None:
    status, error = await get(client, path)
    assert (status, error["error_code"]) == expected
    assert error["message"]


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        (S, {"schema": '"double"'}, (404, 40403)),
        ("nope", {"schema": OURS}, (404, 40401)),
        (S, {"schema": "{"}, (422, 42201)),
        (S, {"schema": 7}, (422, 42201)),
        (S, {"schema": "x", "schemaType": "PROTOBUF"}, (422, 42201)),
        (S, [], (422, 42201)),
        (S, "not json", (422, 42201)),
    ],
)
async def test_lookup_errors(client: Any, subject: str, body: Any, expected: tuple[int, int]) -> None:
    status, error = await post(client, f"/subjects/{subject}", body)
    assert (status, error["error_code"]) == expected
