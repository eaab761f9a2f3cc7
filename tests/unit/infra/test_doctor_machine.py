"""What the doctor says of this machine, in states that can be made for real or handed in."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra import doctor_machine as machine
from infra.process import process_state
from infra.settings import Settings, load_settings
from infra.stack_state import claim
from tests.support.stack import own_ports


@pytest.fixture
def given(tmp_path: Path) -> Settings:
    folders = {"data_dir": tmp_path / "data", "tools_dir": tmp_path / "tools"}
    return load_settings(**folders, **own_ports(), device="auto", brokers="", redis_url="")


def test_settings_that_are_well_and_settings_that_are_not(given: Settings) -> None:
    flags = {"data_dir": given.data_dir, "tools_dir": given.data_dir}
    given.data_dir.mkdir()
    assert [each.state for each in machine.settings(given, flags)] == ["ok"]
    found = machine.settings(None, {**flags, "edges": -1, "fence": False})
    assert [each.state for each in found] == ["fail"]
    assert "edges" in found[0].sentence
    assert [each.state for each in machine.settings(given, {**flags, "fence": False})] == ["warn"]


def test_the_versions_of_this_environment_are_supported(given: Settings) -> None:
    assert {each.state for each in machine.versions(given)} <= {"ok", "warn"}


def test_packages_are_compared_with_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "requirements.txt"
    typer = importlib.metadata.version("typer")
    lock.write_text(f"typer=={typer} \\\n    --hash=sha256:1\nnot_there==1.0\n")
    assert machine.packages(lock) == []
    lock.write_text(f"typer==0.0.1 ; python_version < '3.12'\ntyper=={typer} ; python_version >= '3.12'\n")
    assert machine.packages(lock) == []
    lock.write_text("typer==0.0.1\n")
    (found,) = machine.packages(lock)
    assert (found.state, found.remedy) == ("warn", "`make setup`")
    assert f"typer {typer} (locked: 0.0.1)" in found.sentence
    monkeypatch.setattr(machine, "_installed", lambda: [("onnxruntime", "1.31.1")])
    (found,) = machine.packages(tmp_path / "no")
    assert found.state == "fail"
    assert "pip uninstall onnxruntime" in found.remedy


def test_no_java_is_named_with_its_remedy(given: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("infra.java.ROOT", tmp_path)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = machine.java(given)
    assert (found.state, "make setup" in found.remedy) == ("fail", True)
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    (found,) = machine.java(given)
    assert "is version 11" in found.sentence


def test_an_outside_broker_needs_no_java_and_no_jars(tmp_path: Path) -> None:
    given = load_settings(data_dir=tmp_path, brokers="kafka.example.org:9092")
    assert [each.state for each in (*machine.java(given), *machine.jars(given))] == ["ok"]


def test_jars_that_are_missing_or_are_others(given: Settings) -> None:
    (found,) = machine.jars(given)
    assert (found.state, found.remedy) == ("fail", "`make setup`")
    given.jars_dir.mkdir(parents=True)
    (given.jars_dir / "kafka.jar").write_bytes(b"not it")
    (found,) = machine.jars(given)
    assert found.state == "fail"
    assert "is not the one that" in found.sentence


def test_a_data_directory_that_cannot_be_written(given: Settings) -> None:
    given.data_dir.write_text("")
    (found,) = machine.disk(given)
    assert found.state == "fail"
    assert str(given.data_dir) in found.sentence


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "fail"), (2 << 30, "warn"), (9 << 30, "ok")])
def test_room_on_the_disk(given: Settings, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("infra.doctor_machine.shutil.disk_usage", lambda _: usage)
    assert machine.disk(given)[0].state == state


def test_a_port_that_somebody_else_holds(given: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = given.model_copy(update={"redis_port": other.getsockname()[1]})
        (found,) = machine.ports(taken)
    assert found.state == "fail"
    assert "redis_port" in found.sentence


def state_of(given: Settings, *rows: dict[str, object]) -> None:
    given.run_dir.mkdir(parents=True)
    (given.run_dir / "stack.json").write_text(json.dumps({"supervisor": {"pid": 1}, "processes": list(rows)}))


def test_nothing_was_left_behind(given: Settings) -> None:
    assert machine.stack(given)[0].state == "ok"
    state_of(given, {"name": "edge-0", "pid": os.getpid(), "phase": "ready"})  # another's number by now
    assert machine.stack(given)[0].state == "ok"


def test_a_process_that_outlived_its_supervisor_is_named(given: Settings) -> None:
    left = subprocess.Popen(
        [sys.executable, "-c", "input()"], env={**os.environ, "ISOS_PROCESS_NAME": "edge-0"}, stdin=subprocess.PIPE
    )
    try:
        state_of(given, {"name": "edge-0", "pid": left.pid, "phase": "ready"})
        (found,) = machine.stack(given)
        assert found.state == "fail"
        assert f"edge-0 ({left.pid})" in found.sentence
        assert f"kill {left.pid}" in found.remedy
    finally:
        left.communicate(b"\n")
    assert process_state(left.pid) is None


def test_a_process_that_is_not_ready_says_why(given: Settings) -> None:
    log = given.data_dir / "edge-0.log"
    state_of(
        given,
        {"name": "edge-0", "pid": None, "phase": "backing_off", "restarts": 4, "log": str(log)},
        {"name": "router-0", "pid": None, "phase": "starting", "restarts": 0, "log": "/no/such/log"},
        {"name": "redis", "pid": os.getpid(), "phase": "ready", "restarts": 0, "log": str(log)},
    )
    log.write_text("started\nthe dead letter of x could not be written\n\n")
    with claim(given):
        (found,) = machine.stack(given)
    assert found.state == "warn"
    assert found.sentence == (
        "Processes are not ready: edge-0 (backing_off, 4 restarts), which said: the dead letter of x could not be "
        "written; router-0 (starting, 0 restarts)."
    )


NONE, CLAIM, REAL = (
    {"version": "1.31.1", "claims_cuda": claims, "got_cuda": got}
    for claims, got in ((False, False), (True, False), (True, True))
)


@pytest.mark.parametrize(
    ("device", "seen", "devices", "state", "words"),
    [
        ("auto", CLAIM, [], "ok", "lists CUDA, but a session gets the CPU"),
        ("auto", CLAIM, ["/dev/nvidia0"], "warn", "models run on the CPU"),
        ("auto", NONE, [], "ok", "has no CUDA"),
        ("cuda", CLAIM, [], "fail", "no executor starts"),
        ("cuda", REAL, ["/dev/nvidia0"], "ok", "opens a session on the GPU"),
        ("cpu", CLAIM, ["/dev/nvidia0"], "ok", "models run on the CPU"),
        ("cpu", REAL, ["/dev/nvidia0"], "ok", "leaves it alone"),
    ],
)
def test_the_gpu_is_what_a_session_gets(given, device, seen, devices, state, words):
    (found,) = machine.judged(given.model_copy(update={"device": device}), seen, devices)
    assert found.state == state
    assert words in found.sentence


def test_the_probe_of_the_gpu_runs_in_a_child(given: Settings) -> None:
    (found,) = machine.gpu(given)
    assert "ONNX Runtime 1.31" in found.sentence
