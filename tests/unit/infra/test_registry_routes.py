"""The registry's paths over HTTP, on a log in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer

from infra.registry import application
from streams.codec import SCHEMA_TEXTS, subject_of
from streams.registry.schema_log import SchemaLog, SchemaVersion, fold, missing, schema_record
from tests.support.schemas import MemorySchemas, record

S = subject_of("inference.requests")
OURS = SCHEMA_TEXTS["InferenceRequest"]
BASE, ADDED, REQUIRED = (
    record(("a", "long")),
    record(("a", "long"), ("b", "string", "")),
    record(("a", "long"), ("c", "string")),
)


class Asker:
    """A client that gives status and JSON."""

    def __init__(self, client: Any, schemas: MemorySchemas) -> None:
        self.client = client
        self.schemas = schemas

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        async with self.client.request(method, path, data=data) as answer:
            assert answer.content_type == "application/vnd.schemaregistry.v1+json"
            return answer.status, json.loads(await answer.text())

    async def register(self, subject: str, text: str) -> tuple[int, Any]:
        return await self("POST", f"/subjects/{quote(subject, safe='')}/versions?normalize=True", {"schema": text})


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    log = fold(SchemaLog(), map(schema_record, missing(SchemaLog())))
    gone = SchemaVersion(S, 3, 91, '"int"', '"int"', deleted=True)
    schemas = MemorySchemas(fold(log, map(schema_record, (SchemaVersion(S, 2, 90, '"long"', '"long"'), gone))))
    async with TestClient(TestServer(application(schemas))) as running:
        yield Asker(running, schemas)


async def test_subjects_and_versions(ask: Asker) -> None:
    status, subjects = await ask("GET", "/subjects")
    assert status == 200
    assert S in subjects
    assert await ask("GET", "/subjects?subjectPrefix=nope") == (200, [])
    assert await ask("GET", f"/subjects/{S}/versions") == (200, [1, 2])
    assert await ask("GET", f"/subjects/{S}/versions?deleted=true") == (200, [1, 2, 3])
    _, first = await ask("GET", f"/subjects/{S}/versions/1")
    assert (first["subject"], first["version"], first["id"], first["schemaType"]) == (S, 1, 1, "AVRO")
    assert json.loads(first["schema"]) == json.loads(OURS)
    assert (await ask("GET", f"/subjects/{S}/versions/latest"))[1]["id"] == 90
    assert (await ask("GET", f"/subjects/{S}/versions/-1"))[1]["version"] == 2
    assert await ask("GET", f"/subjects/{S}/versions/2/schema") == (200, "long")
    assert await ask("GET", f"/subjects/{S}/versions/2/referencedby") == (200, [])


async def test_schemas_by_id_and_identifier(ask: Asker) -> None:
    _, found = await ask("GET", f"/schemas/ids/1?subject={S}&fetchMaxId=true")
    assert json.loads(found["schema"]) == json.loads(OURS)
    assert found["maxId"] == 91
    assert (await ask("GET", "/schemas/ids/1/schema"))[1]["name"] == "InferenceRequest"
    assert await ask("GET", "/schemas/ids/1/versions") == (200, [{"subject": S, "version": 1}])
    assert await ask("GET", "/schemas/ids/1/subjects") == (200, [S])
    assert await ask("GET", "/schemas/ids/91/versions") == (200, [])  # hidden, yet its id stays readable
    assert await ask("GET", "/schemas/ids/91/versions?deleted=true") == (200, [{"subject": S, "version": 3}])
    assert (await ask("GET", "/schemas/ids/91"))[0] == 200
    by_guid = (await ask("GET", f"/schemas/guids/{found['guid']}"))[1]
    assert (by_guid["schema"], by_guid["guid"]) == (found["schema"], found["guid"])
    assert await ask("GET", f"/schemas/guids/{found['guid']}/ids") == (200, [{"context": ".", "id": 1}])
    _, every = await ask("GET", f"/schemas?subjectPrefix={S}")
    assert [entry["version"] for entry in every] == [1, 2]
    _, latest = await ask("GET", f"/schemas?subjectPrefix={S}&latestOnly=true")
    assert [entry["version"] for entry in latest] == [2]


async def test_an_id_that_another_registry_gave_out_a_moment_ago(ask: Asker) -> None:
    ask.schemas.later = [schema_record(SchemaVersion("s", 1, 400, '"long"', '"long"'))]
    assert (await ask("GET", "/schemas/ids/400"))[0] == 200
    assert (await ask("GET", "/schemas/ids/401"))[0] == 404


async def test_lookup_and_registration_of_what_is_there(ask: Asker) -> None:
    respelled = json.dumps(json.loads(OURS), indent=7, sort_keys=True)
    status, found = await ask("POST", f"/subjects/{S}?normalize=False&deleted=False", {"schema": respelled})
    assert (status, found["id"], found["version"]) == (200, 1, 1)
    status, found = await ask.register(S, respelled)
    assert (status, found["id"], found["version"]) == (200, 1, 1)
    assert ask.schemas.num_writes == 0


async def test_registration(ask: Asker) -> None:
    name = "of another/team"  # a slash travels quoted
    status, found = await ask.register(name, BASE)
    assert (status, found["id"], found["version"], found["subject"]) == (200, 92, 1, name)
    assert (await ask.register("elsewhere", BASE))[1]["id"] == 92
    assert (await ask.register(name, ADDED))[1]["id"] == 93
    status, error = await ask.register(name, REQUIRED)
    assert (status, error["error_code"]) == (409, 409)
    assert "incompatible with an earlier schema" in error["message"]
    assert (await ask("GET", "/subjects/of%20another%2Fteam/versions")) == (200, [1, 2])


async def test_compatibility(ask: Asker) -> None:
    await ask.register("s", BASE)
    one, every = "/compatibility/subjects/s/versions/latest", "/compatibility/subjects/s/versions"
    for path in (one, every, "/compatibility/subjects/s/versions/1", "/compatibility/subjects/s/versions/-1"):
        assert await ask("POST", path, {"schema": ADDED}) == (200, {"is_compatible": True})
        assert await ask("POST", f"{path}?verbose=false", {"schema": REQUIRED}) == (200, {"is_compatible": False})
        status, found = await ask("POST", f"{path}?verbose=true&normalize=False", {"schema": REQUIRED})
        assert (status, found["is_compatible"], len(found["messages"])) == (200, False, 1)
    assert await ask("POST", f"{one}?verbose=true", {"schema": ADDED}) == (
        200,
        {"is_compatible": True, "messages": []},
    )
    assert (await ask("POST", one, {"schema": "{"}))[1]["error_code"] == 42201
    assert (await ask("POST", "/compatibility/subjects/s/versions/7", {"schema": BASE}))[1]["error_code"] == 40402
    assert (await ask("POST", "/compatibility/subjects/no/versions/1", {"schema": BASE}))[1]["error_code"] == 40401
    assert await ask("POST", "/compatibility/subjects/no/versions", {"schema": BASE}) == (200, {"is_compatible": True})


async def test_levels(ask: Asker) -> None:
    assert await ask("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})
    assert await ask("GET", f"/config/{S}") == (200, {"compatibilityLevel": "FULL_TRANSITIVE"})
    assert (await ask("GET", "/config/s"))[1]["error_code"] == 40408
    assert await ask("GET", "/config/s?defaultToGlobal=true") == (200, {"compatibilityLevel": "BACKWARD"})
    assert await ask("PUT", "/config/s", {"compatibility": "NONE"}) == (200, {"compatibility": "NONE"})
    assert await ask("PUT", "/config", {"compatibility": "FULL"}) == (200, {"compatibility": "FULL"})
    assert await ask("GET", "/config/s") == (200, {"compatibilityLevel": "NONE"})
    assert await ask("DELETE", "/config/s") == (200, {"compatibilityLevel": "NONE"})
    assert await ask("DELETE", "/config") == (200, {"compatibilityLevel": "FULL"})
    assert (await ask("DELETE", "/config/s"))[1]["error_code"] == 40408
    assert (await ask("PUT", "/config/s", {"compatibility": "SOME"}))[1]["error_code"] == 42203
    assert (await ask("PUT", "/config/s", {}))[1]["error_code"] == 42203


async def test_modes(ask: Asker) -> None:
    assert await ask("GET", "/mode") == (200, {"mode": "READWRITE"})
    assert (await ask("GET", "/mode/s"))[1]["error_code"] == 40409
    assert await ask("PUT", "/mode?force=False", {"mode": "READONLY"}) == (200, {"mode": "READONLY"})
    assert await ask("GET", "/mode/s?defaultToGlobal=true") == (200, {"mode": "READONLY"})
    status, error = await ask.register("s", BASE)
    assert (status, error["error_code"]) == (422, 42205)
    assert "read-only" in error["message"]
    assert await ask("PUT", "/mode/s", {"mode": "READWRITE"}) == (200, {"mode": "READWRITE"})
    assert (await ask.register("s", BASE))[0] == 200
    assert await ask("DELETE", "/mode/s") == (200, {"mode": "READWRITE"})
    assert await ask("DELETE", "/mode") == (200, {"mode": "READONLY"})
    assert (await ask("PUT", "/mode", {"mode": "IMPORT"}))[1]["error_code"] == 42204


async def test_deletions(ask: Asker) -> None:
    await ask.register("s", BASE)
    await ask.register("s", ADDED)
    assert await ask("DELETE", "/subjects/s/versions/2") == (200, 2)
    assert (await ask("DELETE", "/subjects/s/versions/2"))[1]["error_code"] == 40406
    assert await ask("DELETE", "/subjects/s/versions/2?permanent=true") == (200, 2)
    assert await ask("DELETE", "/subjects/s") == (200, [1])
    assert (await ask("GET", "/subjects/s/versions"))[1]["error_code"] == 40401
    assert await ask("GET", "/subjects/s/versions?deleted=true") == (200, [1])
    assert await ask("DELETE", "/subjects/s?permanent=true") == (200, [1])
    assert (await ask("DELETE", "/subjects/s?permanent=true"))[1]["error_code"] == 40401
    status, error = await ask("DELETE", f"/subjects/{S}")
    assert (status, error["error_code"]) == (422, 42205)


async def test_what_clients_ask_first(ask: Asker) -> None:
    assert await ask("GET", "/") == (200, {})
    assert await ask("GET", "/schemas/types") == (200, ["AVRO"])
    assert await ask("GET", "/contexts") == (200, ["."])


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
        ("/schemas/guids/x", (404, 40403)),
        ("/nothing", (404, 404)),
    ],
)
async def test_errors_have_the_numbers_clients_know(ask: Asker, path: str, expected: tuple[int, int]) -> None:
    status, error = await ask("GET", path)
    assert (status, error["error_code"]) == expected
    assert error["message"]


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        (S, {"schema": '"double"'}, (404, 40403)),
        ("nope", {"schema": OURS}, (404, 40401)),
        (S, {"schema": "{"}, (422, 42201)),
        (S, [], (422, 42201)),
    ],
)
async def test_lookup_errors(ask: Asker, subject: str, body: Any, expected: tuple[int, int]) -> None:
    status, error = await ask("POST", f"/subjects/{subject}", body)
    assert (status, error["error_code"]) == expected
