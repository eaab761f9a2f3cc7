"""One whole stack per session, for the tests that need every process; it starts with the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.served import register_models
from tests.support.stack import SESSION_S, RunningStack, stack_settings


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack on free ports that serves the models of ``tests.support.served``, with a short session time-out."""
    settings = stack_settings(tmp_path_factory.mktemp("whole-stack"), session_timeout_s=SESSION_S, decision_sample=1)
    with RunningStack(settings) as running:
        running.wait_ready()
        asyncio.run(register_models(settings))
        yield running
