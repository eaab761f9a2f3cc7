"""Fixtures shared by all tests; nothing starts unless a test asks for it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Before any import of ONNX Runtime or Numba: no telemetry, one thread, kernels cached where the program caches them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".isos" / "numba"))

from tests.support.broker import Servers, start_servers
from tests.support.connections import Connections, watched
from tests.support.tally import Part, append

# How long an example takes says more about the machine than about the code, and is no verdict of a test.
hypothesis.settings.register_profile("isos", deadline=None)
hypothesis.settings.load_profile("isos")

_began = time.time()
_REAL = ("integration", "chaos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs real servers: everything in the folders of real tests, and whoever asks for the fixture."""
    root = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(root).parts[0] if item.path.is_relative_to(root) else ""
        if folder in _REAL or "servers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests ran against real servers; count this run for ``make test``."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    count = sum("broker" in report.keywords for report in reports if getattr(report, "when", "") == "call")
    if count:
        terminalreporter.write_line(f"tests against a real broker: {count}")
    if tally := os.environ.get("TEST_TALLY"):
        passed, failed = (len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed"))
        errors = len(terminalreporter.stats.get("error", ()))
        paths = " ".join(argument for argument in config.args if not argument.startswith("-"))
        append(Path(tally), Part(paths, passed, failed + errors, time.time() - _began))


@pytest.fixture(scope="session")
def connections() -> Iterator[Connections]:
    """Give all of aiokafka's connections of this process."""
    with watched() as made:
        yield made


@pytest.fixture(autouse=True)
def no_connection_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test against real servers closes its connections to them, or is told which it left."""
    if request.node.get_closest_marker("broker") is None:
        yield
        return
    made: Connections = request.getfixturevalue("connections")
    yield
    left = made.left()
    assert not left, f"{len(left)} connections to the broker are still open:\n" + "\n".join(left)


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
