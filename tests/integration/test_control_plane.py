"""The control agents as processes on a real broker: plans, kills, freezes, incidents, commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.child_environment import child_environment
from infra.log_reader import LogReader
from infra.monitor_view import read_monitor
from infra.settings import Settings, load_settings
from schemas.memory import MemoryCommand, MemoryEntry
from schemas.model import ModelVersion
from schemas.plan import Plan, VersionWeight
from schemas.review import ReviewRequest
from schemas.telemetry import Heartbeat
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, producer
from streams.memory_view import MemoryView, active_version, plan, rejection
from streams.partition_log import KafkaLog
from streams.provision import provision
from streams.registry.schema_log import read_schema_ids
from streams.topics import JOURNALED_AGENTS, full_name
from streams.watch import MemoryWatch, WatchTimeoutError
from tests.support.broker import Servers, start_servers, unique

WAIT_S = 30.0


@dataclass
class Plane:
    """Processes of the control plane, and a client that commands and watches."""

    settings: Settings
    folder: Path
    codec: Codec
    memory: MemoryWatch
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def launch(self, role: str) -> None:
        env = child_environment(self.settings, os.environ)
        with (self.folder / f"{role}.log").open("ab") as log:
            self.processes[role] = subprocess.Popen(
                [sys.executable, "-m", "infra.roles", role], stdout=log, stderr=log, env=env
            )

    def signal(self, role: str, number: int) -> None:
        os.kill(self.processes[role].pid, number)

    def kill(self, role: str) -> None:
        self.signal(role, signal.SIGKILL)
        self.processes[role].wait()

    async def command(self, *commands: MemoryCommand) -> None:
        client = producer(Connection(self.settings.bootstrap), enable_idempotence=True)
        await client.start()
        for command in commands:
            value = self.codec.encode("memory.commands", command)
            await client.send_and_wait(full_name("memory.commands"), value, key=command.key.encode())
        await client.stop()

    async def publish(self, topic: str, key: bytes, record: Any) -> None:
        client = producer(Connection(self.settings.bootstrap), enable_idempotence=True)
        await client.start()
        await client.send_and_wait(full_name(topic), self.codec.encode(topic, record), key=key)
        await client.stop()

    async def until(self, condition: Any, what: str, timeout_s: float = WAIT_S) -> MemoryView:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for role, process in self.processes.items():
                assert process.poll() is None, f"{role} ended: {self.log(role)}"
            with contextlib.suppress(WatchTimeoutError):
                return await self.memory.wait_for(condition, 1.0, what)
        pytest.fail(f"{what}: not within {timeout_s} s\n{self.log('orchestrator')}\n{self.log('control')}")

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text()[-3000:]

    def isos(self, *arguments: str) -> Any:
        argv = [sys.executable, "-m", "infra.cli", *arguments]
        env = child_environment(self.settings, os.environ)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def model(name: str, version: str = "v1.0.0") -> ModelVersion:
    return ModelVersion(name, version, "ab" * 32, 10, (), (), max_batch_size=64)


def register(facts: ModelVersion, command_id: str = "") -> MemoryCommand:
    key = f"model/{facts.model}/{facts.version}"
    return MemoryCommand(command_id or f"register {key}", "cli", "RegisterModel", key, 0, to_json(facts), "test", (), 1)


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """A broker of this module's own: the agents write to topics with fixed names."""
    with start_servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plane")


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The roles' processes, which outlive the single test."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    yield running
    for process in running.values():
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.terminate()
    for role, process in running.items():
        assert process.wait(20) == 0, f"{role} did not end cleanly"


@pytest.fixture
async def plane(
    own_servers: Servers, folder: Path, processes: dict[str, subprocess.Popen[bytes]]
) -> AsyncIterator[Plane]:
    connection = Connection(own_servers.bootstrap)
    settings = load_settings(data_dir=folder / "data", brokers=own_servers.bootstrap, redis_url=own_servers.redis_url)
    if not processes:
        await provision(connection, partitions=2, lanes=2)
    codec = Codec(await read_schema_ids(connection))
    memory = MemoryWatch(connection, codec)
    await memory.start()
    plane = Plane(settings, folder, codec, memory, processes)
    if not processes:
        plane.launch("orchestrator")
        plane.launch("control")
    yield plane
    await memory.stop()


async def state_topic(plane: Plane) -> dict[str, MemoryEntry]:
    found: dict[str, MemoryEntry] = {}
    for record in await KafkaLog(Connection(plane.settings.bootstrap)).read(full_name("memory.state"), 0):
        key = (record.key or b"").decode()
        if record.value is None:
            found.pop(key, None)
        else:
            found[key] = plane.codec.decode("memory.state", record.value)
    return found


async def test_a_registered_model_is_active_and_planned(plane: Plane) -> None:
    name = unique("first")
    await plane.command(register(model(name)))
    view = await plane.until(lambda v: plan(v, name) is not None, f"{name} is planned", 60)
    assert active_version(view, name) == "v1.0.0"
    assert plan(view, name) == Plan(name, (VersionWeight("v1.0.0", 100),), 64, plane.settings.default_timeout_ms)
    began = time.monotonic()
    second = unique("second")
    await plane.command(register(model(second)))
    await plane.until(lambda v: plan(v, second) is not None, f"{second} is planned")
    print(f"from command to plan: {(time.monotonic() - began) * 1e3:.0f} ms")


async def test_the_rules_file_stands_in_memory(plane: Plane) -> None:
    await plane.until(lambda v: "context/batch-contract" in v.entries, "the rules are noted")


async def test_a_refusal_is_told_with_code_and_sentence(plane: Plane) -> None:
    name = unique("refused")
    command = register(model(name, "1.0"), unique("cmd"))
    await plane.command(command)
    view = await plane.until(lambda v: rejection(v, command.command_id) is not None, "the refusal is told")
    refused = rejection(view, command.command_id)
    assert refused is not None
    assert (refused.code, name in refused.message) == ("invalid_name", True)


@pytest.mark.timeout(180)
async def test_killed_orchestrator_and_control_lose_and_repeat_nothing(plane: Plane) -> None:
    names = [unique("kill") for _ in range(60)]
    sending = asyncio.create_task(plane.command(*(register(model(name)) for name in names)))
    await plane.until(lambda v: any(name in str(v.entries.keys()) for name in names[3:]), "the first are registered")
    plane.kill("orchestrator")
    plane.kill("control")
    plane.launch("orchestrator")
    plane.launch("control")
    await sending
    await plane.until(lambda v: plan(v, names[10]) is not None, "plans go on", 60)
    plane.kill("orchestrator")
    plane.launch("orchestrator")
    await plane.command(*(register(model(name)) for name in names))
    view = await plane.until(lambda v: all(plan(v, name) is not None for name in names), "all are planned", 60)
    events = await (await LogReader.connect(Connection(plane.settings.bootstrap))).memory_events()
    for name in names:
        kinds = [
            s.event.kind for s in events if s.event.key.split("/")[1] == name and s.event.kind != "CommandRejected"
        ]
        assert kinds == ["ModelRegistered", "VersionActivated", "PlanMadeEffective"]
    assert plane.memory.voids == 0
    assert [stored.event.sequence for stored in events][: view.sequence] == list(range(1, view.sequence + 1))


@pytest.mark.timeout(120)
async def test_a_silent_process_becomes_an_incident_and_comes_back(plane: Plane) -> None:
    """The silent one is made up: a frozen Orchestrator could not write the incident, a frozen Monitor not notice it."""
    name, started_us = 70_000 + os.getpid() % 1_000, time.time_ns() // 1000
    subject = f"incident/process_silent/executor-{name}"

    def beat() -> Heartbeat:
        return Heartbeat("executor", name, 1, started_us, time.time_ns() // 1000, 0)

    await plane.publish("control.heartbeats", b"x", beat())
    view = await plane.until(lambda v: any(key.startswith(subject) for key in v.entries), "the silence is an incident")
    key = next(key for key in view.entries if key.startswith(subject))
    assert json.loads(view.entries[key].body)["kind"] == "process_silent"
    await plane.publish("control.heartbeats", b"x", beat())
    await plane.until(lambda v: key not in v.entries, "the incident is resolved")
    events = await (await LogReader.connect(Connection(plane.settings.bootstrap))).memory_events()
    assert [s.event.kind for s in events if s.event.key == key] == ["IncidentRaised", "IncidentResolved"]


@pytest.mark.timeout(120)
async def test_a_frozen_orchestrator_goes_on_where_it_stood(plane: Plane) -> None:
    before, after = unique("before"), unique("after")
    await plane.command(register(model(before)))
    await plane.until(lambda v: plan(v, before) is not None, "a plan before the freeze")
    plane.signal("orchestrator", signal.SIGSTOP)
    await plane.command(register(model(after)))
    await asyncio.sleep(plane.settings.session_timeout_s + 4)  # the length of the fault: longer than a session
    plane.signal("orchestrator", signal.SIGCONT)
    began = time.monotonic()
    await plane.until(lambda v: plan(v, after) is not None, "a plan after the freeze", 40)
    print(f"after SIGCONT: {time.monotonic() - began:.1f} s to the next plan")
    assert plane.memory.voids == 0


async def test_a_review_nobody_decides_is_refused(plane: Plane) -> None:
    review = unique("review")
    now_us = time.time_ns() // 1000
    request = ReviewRequest(review, "planner", "plan/x", "ab" * 32, "evidence", now_us + 2_000_000, now_us)
    await plane.publish("control.review-requests", review.encode(), request)
    reader = await LogReader.connect(Connection(plane.settings.bootstrap))
    deadline = time.monotonic() + WAIT_S
    decided: list[Any] = []
    escalated: list[Any] = []
    while not (decided and escalated) and time.monotonic() < deadline:
        decided = [r.record for r in await reader.read("control.review-decisions") if r.record.review_id == review]
        escalated = [r.record for r in await reader.read("control.escalations") if review in r.record.escalation_id]
    assert [d.decision for d in decided] == ["expired"]
    assert [e.escalation_id for e in escalated] == [f"{review}/expired"]
    rows = plane.isos("reviews", "list", "--all", "--output", "json")
    assert [row["state"] for row in rows if row["review_id"] == review] == ["expired"]


async def test_memory_commands_show_any_point(plane: Plane) -> None:
    name = unique("shown")
    await plane.command(register(model(name)))
    view = await plane.until(lambda v: plan(v, name) is not None, f"{name} is planned")
    entry = view.entries[f"model/{name}/v1.0.0"]
    assert [row["key"] for row in plane.isos("memory", "show", f"plan/{name}", "--output", "json")] == [f"plan/{name}"]
    earlier = plane.isos("memory", "show", "--at", str(entry.sequence), "--output", "json")
    keys = {row["key"] for row in earlier}
    assert f"model/{name}/v1.0.0" in keys
    assert f"active/{name}" not in keys
    (change,) = plane.isos("memory", "history", f"plan/{name}", "--output", "json")
    assert (change["kind"], change["agent"]) == ("PlanMadeEffective", "planner")
    exported = plane.isos("memory", "export")
    assert exported["entries"][f"plan/{name}"]["body"]["model"] == name
    assert exported["sequence"] >= view.sequence


async def test_status_shows_who_is_heard(plane: Plane) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        seen = await asyncio.to_thread(read_monitor, plane.settings)
        assert seen is not None
        if seen["heard"] >= 2 and seen["memory_sequence"] == plane.memory.view.sequence:
            break
        assert time.monotonic() < deadline, seen
    assert "orchestrator-0" not in seen["silent"]


async def test_state_topic_is_the_fold_of_the_events(plane: Plane) -> None:
    deadline = time.monotonic() + WAIT_S
    while await state_topic(plane) != dict(plane.memory.view.entries):
        assert time.monotonic() < deadline


def test_what_was_decided_through_kills_and_freezes_is_decided_again(plane: Plane) -> None:
    """Last in this module: the journals hold everything above, and every take-over left a snapshot to compare with."""
    rows = {row["agent"]: row for row in plane.isos("replay", "--all", "--output", "json")}
    assert {name: row["difference"] for name, row in rows.items()} == dict.fromkeys((*JOURNALED_AGENTS, "router"))
    assert all(rows[name]["snapshots"] > 0 for name in ("orchestrator", "planner", "monitor"))
    print({name: (row["entries"], row["snapshots"]) for name, row in rows.items()})
