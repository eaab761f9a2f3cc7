"""The data plane's processes: without a broker each says that it may be tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra import data_plane
from streams.errors import RetriableError
from tests.unit.infra.test_stage import context


@pytest.mark.parametrize("role", ["edge", "router", "executor", "validator"])
async def test_a_role_without_a_broker_says_that_it_may_be_tried_again(role: str, tmp_path: Path) -> None:
    """The process must end with the status for "start me anew", not as a defect."""
    with pytest.raises(RetriableError):
        await asyncio.wait_for(getattr(data_plane, role)(context(tmp_path)), 30)
