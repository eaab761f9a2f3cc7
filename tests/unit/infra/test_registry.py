"""The registry's application as a whole; its life on a broker is in tests/integration/test_registry.py."""

from __future__ import annotations

import io

from aiohttp.test_utils import TestClient, TestServer

from infra.registry import LogSchemas, application
from streams.connection import Connection
from tests.support.schemas import MemorySchemas


async def test_what_nobody_asks_for_has_an_error_body() -> None:
    async with TestClient(TestServer(application(MemorySchemas()))) as client:
        for path, method, status in (("/nothing", "GET", 404), ("/subjects", "PATCH", 405)):
            async with client.request(method, path) as answer:
                assert answer.status == status
                assert answer.content_type == "application/vnd.schemaregistry.v1+json"
                assert (await answer.json(content_type=None))["error_code"] == status
        async with client.post("/subjects/s/versions", data=io.BytesIO(b"x" * (2 << 20))) as answer:
            assert (answer.status, (await answer.json(content_type=None))["error_code"]) == (413, 413)


async def test_schemas_of_a_broker_begin_empty_and_stop_without_a_start() -> None:
    schemas = LogSchemas(Connection("127.0.0.1:1"))
    assert schemas.log.versions == {}
    await schemas.stop()
