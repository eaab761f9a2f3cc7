"""One sentence each, naming the setting."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.doctor_check import Check
from infra.settings import Settings, StartError, load_settings
from infra.stack_check import check_before_start, check_device, check_disk, check_ports, check_reachable, check_writable
from tests.support.stack import own_ports


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path, tools_dir=tmp_path / "tools", **own_ports())


def refused(caught: pytest.ExceptionInfo[StartError], *words: str) -> None:
    assert caught.value.exit_code == 6
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError) as caught:
        check_writable(load_settings(data_dir=tmp_path / "file" / "below"))
    refused(caught, str(tmp_path / "file" / "below"), "data_dir")


def test_less_than_a_gibibyte_left(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage((1 << 30) - 1))
    with pytest.raises(StartError) as caught:
        check_disk(settings)
    refused(caught, "1023 MiB", "data_dir")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 30))
    check_disk(settings)


@pytest.mark.parametrize("name", ["broker_port", "controller_port", "redis_port", "registry_port"])
def test_a_taken_port(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as caught:
            check_ports(load_settings(data_dir=tmp_path, **{**own_ports(), name: port}))
        refused(caught, str(port), name)
        other = {"brokers": "k:1", "redis_url": "redis://r", "registry_url": "http://r"}
        check_ports(load_settings(data_dir=tmp_path, **{**own_ports(), name: port, **other}))


def test_no_java(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.broker.find_java", lambda: None)
    with pytest.raises(StartError) as caught:
        check_before_start(settings)
    refused(caught, "Java", "ISOS_BROKERS")


def test_no_jars(settings: Settings) -> None:
    with pytest.raises(StartError) as caught:
        check_before_start(settings)
    refused(caught, "jars", "make setup")


def test_an_address_where_nobody_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound, but not listening
        with pytest.raises(StartError) as caught:
            check_reachable("Kafka broker", "brokers", [address])
        refused(caught, address, "ISOS_BROKERS")


def test_cuda_without_a_gpu(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [Check("gpu", "fail", "ONNX Runtime has no CUDA.", "Install it.")]
    monkeypatch.setattr("infra.doctor_machine.gpu", lambda _settings: seen)
    check_device(settings.model_copy(update={"device": "auto"}))
    wanted = settings.model_copy(update={"device": "cuda"})
    with pytest.raises(StartError, match=r"ONNX Runtime has no CUDA. Install it\."):
        check_device(wanted)
    seen[:] = [Check("gpu", "ok", "A session opens on the GPU.", "")]
    check_device(wanted)
