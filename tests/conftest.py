"""Fixtures shared by all tests; nothing starts unless a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import Servers, start_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One real broker and Redis per session; the test fails when they cannot be had."""
    with start_servers() as running:
        yield running


@pytest.fixture(scope="session")
def bootstrap(servers: Servers) -> str:
    """Give the session's broker address."""
    return servers.bootstrap


@pytest.fixture(scope="session")
def redis_url(servers: Servers) -> str:
    """Give the session's Redis address."""
    return servers.redis_url
