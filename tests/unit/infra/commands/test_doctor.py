"""`isos doctor` with nothing running, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from tests.support.broker import free_ports


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ISOS_")]:
        monkeypatch.delenv(name)
    broker, controller, redis, registry = free_ports(4)
    monkeypatch.setenv("ISOS_BROKER_PORT", str(broker))
    monkeypatch.setenv("ISOS_CONTROLLER_PORT", str(controller))
    monkeypatch.setenv("ISOS_REDIS_PORT", str(redis))
    monkeypatch.setenv("ISOS_REGISTRY_PORT", str(registry))
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path / "data"))


def test_with_nothing_running_it_says_so_and_is_0() -> None:
    done = CliRunner().invoke(app, ["doctor", "--output", "json"])
    document = json.loads(done.stdout)
    states = {each["name"]: each["state"] for each in document["checks"]}
    assert done.exit_code == 0, done.stdout
    assert (states["broker"], states["java"], states["gpu"]) == ("warn", "ok", "ok")
    assert document["fail"] == 0


def test_an_outside_broker_that_is_away_is_6() -> None:
    (port,) = free_ports(1)
    done = CliRunner().invoke(app, ["--set", f"brokers=127.0.0.1:{port}", "doctor"])
    assert done.exit_code == 6
    assert f"fail  broker    No broker answers at 127.0.0.1:{port}." in done.stdout
    assert "-> Start that broker" in done.stdout


def test_settings_that_cannot_be_loaded_are_1_with_every_reason() -> None:
    done = CliRunner().invoke(app, ["--set", "edges=-1", "--set", "device=tpu", "doctor", "--output", "json"])
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert [each["name"] for each in document["checks"]] == ["settings", "settings"]
