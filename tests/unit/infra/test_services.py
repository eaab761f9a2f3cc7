"""Provisioning and the registry get what the settings say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import services
from infra.roles import RoleContext
from infra.settings import load_settings
from streams.codec import SchemaIds
from streams.connection import Connection


@pytest.fixture
def context(tmp_path: Path) -> RoleContext:
    settings = load_settings(data_dir=tmp_path, partitions=6, lanes=3)
    return RoleContext(settings, Connection(settings.bootstrap), "provision", 0, lambda: None, lambda error: None)


async def test_provision_uses_partitions_and_lanes(context: RoleContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def provision(connection: Connection, **given: int) -> Any:
        asked.append((connection, given))
        return SimpleNamespace(created=("a", "b"), num_registered=2, schema_ids=SchemaIds.local())

    async def declare(*given: Any) -> None:
        asked.append((given[0], given[2]))

    monkeypatch.setattr(services, "provision_broker", provision)
    monkeypatch.setattr(services, "declare", declare)
    await services.provision(context)
    assert asked == [
        (context.connection, {"partitions": 6, "lanes": 3 + context.settings.slow_executors}),
        (context.connection, context.settings),
    ]


async def test_the_registry_serves_on_its_port(context: RoleContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def run(*given: Any) -> None:
        asked.append(given)

    monkeypatch.setattr(services.registry_server, "run", run)
    await services.registry(context)
    settings = context.settings
    assert asked == [(context.connection, settings.registry_port, context.ready, settings.registry_host)]
