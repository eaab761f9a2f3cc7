"""One stack with two of every stage per session, for the tests that leave it whole; the first of them starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.faults import two_of_each
from tests.support.stack import RunningStack


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Two edges, Routers, executors and Validators over two partitions (more once a test has added some)."""
    with two_of_each(tmp_path_factory.mktemp("two")) as running:
        yield running
