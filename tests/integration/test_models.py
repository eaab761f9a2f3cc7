"""`isos models` against a real broker: a stand-in for Orchestrator and Planner answers through the real event store."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from executors.model_store import ModelStore
from infra.registration import RefusedError, Registrar, checked_version
from infra.settings import Settings
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import Plan, VersionWeight
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, consumer, stop_quietly
from streams.control.event_store import EventStore
from streams.memory_view import Rejection
from streams.partition_log import KafkaLog
from streams.provision import provision
from streams.topics import full_name
from streams.watch import WatchTimeoutError
from tests.support import models
from tests.support.broker import Servers, start_servers


@dataclass(frozen=True, slots=True)
class Place:
    """A broker with our topics, and settings that point to it."""

    connection: Connection
    codec: Codec
    settings: Settings

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.settings.data_dir)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A broker of this module's own: the command speaks to the topics' real names."""
    with start_servers() as servers:
        yield asyncio.run(_prepared(servers))


async def _prepared(servers: Servers) -> Place:
    connection = Connection(servers.bootstrap)
    ids = (await provision(connection, partitions=1, lanes=1)).schema_ids
    settings = servers.settings.model_copy(update={"brokers": servers.bootstrap})
    return Place(connection, Codec(ids), settings)


@asynccontextmanager
async def orchestrated(place: Place, refuse: str = "") -> AsyncIterator[None]:
    """Accept each RegisterModel with an event and a plan; refuse those of the model ``refuse``."""
    task = asyncio.create_task(_orchestrate(place, refuse))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _orchestrate(place: Place, refuse: str) -> None:
    events = EventStore(KafkaLog(place.connection), place.codec)
    await events.open()
    client = consumer(place.connection, full_name("memory.commands"))
    await client.start()
    try:
        async for message in client:
            command = place.codec.decode("memory.commands", message.value)
            if any(entry == command.key for entry in events.view.entries):
                continue
            if refuse and f"/{refuse}/" in command.key:
                body = to_json(Rejection(command.command_id, "not_allowed", "This name is taken."))
                await _append(events, command, "CommandRejected", f"rejections/{command.command_id}", body)
                continue
            await _append(events, command, "ModelRegistered", command.key, command.body)
            _, model, version = command.key.split("/")
            plan = to_json(Plan(model, (VersionWeight(version, 100),), 128, 30_000))
            await _append(events, command, "PlanMadeEffective", f"plan/{model}", plan)
    finally:
        await stop_quietly(client)
        await events.stop()


async def _append(events: EventStore, command: MemoryCommand, kind: str, key: str, body: str) -> None:
    sequence = events.view.sequence + 1
    await events.append(
        MemoryEvent(
            sequence, b"", command.command_id, "orchestrator", kind, key, 1, body, "", (), time.time_ns() // 1000
        )
    )


async def test_register_then_again_then_other_bytes(place: Place) -> None:
    blob = models.identity()
    facts = models.version_of(blob, name="first")
    async with orchestrated(place), Registrar(place.connection, place.store, 20) as registrar:
        done = await registrar.register(blob, facts)
        assert (done.outcome, done.planned) == ("registered", True)
        assert place.store.get(facts.digest) == blob
        again = await registrar.register(blob, facts)
        assert (again.outcome, again.memory_sequence) == ("already_registered", done.memory_sequence)
        other = models.identity(5)
        with pytest.raises(RefusedError, match="registered with another file") as caught:
            await registrar.register(other, models.version_of(other, name="first"))
        assert caught.value.exit_code == 4
        with pytest.raises(RefusedError, match="another manifest"):
            await registrar.register(blob, models.version_of(blob, name="first", max_batch_size=4))


async def test_a_refusal_of_the_orchestrator_arrives_and_may_be_tried_again(place: Place) -> None:
    blob = models.identity()
    facts = models.version_of(blob, name="second")
    async with Registrar(place.connection, place.store, 20) as registrar:
        async with orchestrated(place, refuse="second"):
            with pytest.raises(RefusedError, match=r"not_allowed: This name is taken\."):
                await registrar.register(blob, facts)
        async with orchestrated(place):
            # The stand-in reads all commands again; the first one is still there and is accepted now, or the second is.
            assert (await registrar.register(blob, facts)).planned


async def test_nobody_answers(place: Place) -> None:
    blob = models.identity()
    async with Registrar(place.connection, place.store, 1.0) as registrar:
        with pytest.raises(WatchTimeoutError, match="The Orchestrator's answer about third v1"):
            await registrar.register(blob, models.version_of(blob, name="third"))


async def test_the_command_line(place: Place, tmp_path: Path) -> None:
    manifest = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    }
    (tmp_path / "m.onnx").write_bytes(models.identity())
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    named = ["--name", "fourth", "--version", "v1.0.0", "--manifest", f"{tmp_path / 'm.json'}"]
    async with orchestrated(place):
        done = await isos(place, "register", f"{tmp_path / 'm.onnx'}", *named, "--output", "json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert (document["outcome"], document["planned"]) == ("registered", True)
        assert all(check["passed"] for check in document["checks"])
        again = await isos(place, "register", f"{tmp_path / 'm.onnx'}", *named)
        assert again.returncode == 0
        assert "already registered" in again.stdout
        (tmp_path / "m.onnx").write_bytes(models.nan())
        other = await isos(place, "register", f"{tmp_path / 'm.onnx'}", *named)
        assert (other.returncode, other.stdout) == (4, "")
        assert "version_exists" in other.stderr
    (tmp_path / "m.onnx").write_bytes(b"garbage")
    garbage = await isos(place, "register", f"{tmp_path / 'm.onnx'}", *named)
    assert garbage.returncode == 4
    assert "no ONNX model" in garbage.stderr
    (tmp_path / "m.json").write_text("{}")
    unclear = await isos(place, "register", f"{tmp_path / 'm.onnx'}", *named)
    assert unclear.returncode == 2
    assert "inputs: Field required" in unclear.stderr
    listed = json.loads((await isos(place, "list", "--output", "json")).stdout)
    assert {"model": "fourth", "serves_percent": 100}.items() <= next(
        r for r in listed if r["model"] == "fourth"
    ).items()
    shown = await isos(place, "show", "fourth")
    assert "x FP32[-1, 4]" in shown.stdout
    assert (await isos(place, "show", "nobody")).returncode == 3


async def isos(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "ISOS_BROKERS": place.connection.bootstrap,
        "ISOS_DATA_DIR": str(place.settings.data_dir),
    }
    command = [sys.executable, "-m", "infra.cli", "models", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def test_a_check_that_fails_is_refused_with_its_name() -> None:
    from executors.manifest import read_manifest

    text = json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 9]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    })  # fmt: skip
    with pytest.raises(RefusedError, match="model_signature: input `x`"):
        checked_version(models.identity(), "model", "v1.0.0", read_manifest(text))
