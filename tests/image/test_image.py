"""The image and compose.yaml with a container engine: ``make image-test``. Without one it fails, and says so.

Not part of ``make test``; ``tests/integration/test_compose.py`` is what runs everywhere.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isos import Client
from tests.support.broker import unique
from tests.support.compose import read_compose
from tests.support.stack import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
BOOTSTRAP = "127.0.0.1:19092"
DIGITS = "/opt/isos/tools/digits"
PROCESSES = ("registry", "orchestrator", "control", "edge", "router", "validator", "executor")
pytestmark = pytest.mark.timeout(1800)


class Compose:
    """``docker compose`` on a project of its own."""

    def __init__(self) -> None:
        self._command = ["docker", "compose", "-p", unique("isos-test"), "-f", str(ROOT / "compose.yaml")]

    def __call__(self, *arguments: str) -> str:
        """Run a command; what it printed."""
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def state(self, name: str) -> tuple[int, str]:
        """How often a service was started again, and its health."""
        found = json.loads(_docker("inspect", self("ps", "-q", name).strip()))[0]
        return int(found["RestartCount"]), str(found["State"]["Health"]["Status"])

    def kill(self, name: str) -> None:
        """Kill -9 what runs in a service's container; the command itself may be cut off by it."""
        subprocess.run([*self._command, "exec", "-T", name, "sh", "-c", "kill -9 -1"], capture_output=True, check=False)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    for probe in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            answers = subprocess.run(probe, capture_output=True, check=False, timeout=60).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            answers = False
        if not answers:
            pytest.fail(f"make image-test needs a container engine with Compose, and `{' '.join(probe)}` fails.", False)
    run = Compose()
    try:
        run("up", "-d", "--build", "--wait")
        yield run
    finally:
        run("down", "-v")


@pytest.fixture(scope="module")
def registered(compose: Compose) -> Compose:
    files = [f"{DIGITS}/digits.onnx", "--name", "digits", "--version", "v1.0.0"]
    compose("run", "--rm", "cli", "models", "register", *files, "--manifest", f"{DIGITS}/manifest.json")
    return compose


async def infer() -> None:
    async with Client(BOOTSTRAP) as client:
        answer = await client.infer("digits", {"image": np.zeros((2, 64), np.uint8)}, timeout_ms=60_000)
    assert answer.outputs["classes"].shape == (2, 3)


async def test_a_client_of_the_host_is_answered(registered: Compose) -> None:
    await infer()
    registered("run", "--rm", "cli", "ledger", "--drained")


@pytest.mark.parametrize("name", PROCESSES)
async def test_a_killed_process_comes_back(registered: Compose, name: str) -> None:
    num_before, _ = registered.state(name)
    registered.kill(name)
    wait_until(lambda: registered.state(name) == (num_before + 1, "healthy"), 120, f"the return of {name}")
    await infer()


def test_processes_have_no_rights(compose: Compose) -> None:
    user = read_compose(ROOT / "compose.yaml")["services"]["edge"]["user"].split(":")[0]
    assert compose("exec", "edge", "id", "-u").strip() == user
    for path in ("/opt/isos", "/etc", "/usr/local"):
        assert (
            compose("exec", "edge", "sh", "-c", f"touch {path}/x 2>/dev/null && echo written || echo no").strip()
            == "no"
        )
