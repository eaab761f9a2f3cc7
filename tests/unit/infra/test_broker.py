"""The broker's readiness question and its process description; the broker itself runs in the integration tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.broker import answers_kafka, broker_process, format_storage, require_java
from infra.settings import StartError, load_settings


async def ask(answer: bytes) -> tuple[bool, bytes]:
    """Serve one connection that answers ``answer``; give what readiness says and what it sent."""
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.read(100)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        return await answers_kafka("127.0.0.1", server.sockets[0].getsockname()[1])(1), heard


async def test_an_api_versions_answer_is_ready() -> None:
    ready, heard = await ask(bytes.fromhex("0000000a00000001000000000000"))
    assert ready
    assert heard == bytes.fromhex("0000000e00120000000000010004") + b"isos"


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n", bytes.fromhex("0000000a00000001002300000000")]
)
async def test_another_answer_is_not(answer: bytes) -> None:
    assert not (await ask(answer))[0]


def test_the_process_runs_the_jars_with_our_properties(tmp_path: Path) -> None:
    jars = tmp_path / "tools" / "jars"
    jars.mkdir(parents=True)
    settings = load_settings(data_dir=tmp_path, tools_dir=tmp_path / "tools")
    with pytest.raises(StartError, match="make setup"):
        broker_process(settings)
    (jars / "b.jar").touch()
    (jars / "a.jar").touch()
    spec = broker_process(settings)
    assert f"{jars}/a.jar:{jars}/b.jar" in spec.argv
    assert spec.argv[-2:] == ("kafka.Kafka", str(tmp_path / "kafka" / "server.properties"))
    assert spec.stop_s == 10
    assert "-XX:TieredStopAtLevel=1" in spec.argv
    steady = broker_process(settings.model_copy(update={"broker_jit": "steady"}))
    assert "-XX:TieredStopAtLevel=1" not in steady.argv


def test_a_format_that_fails_is_one_sentence(tmp_path: Path) -> None:
    jars = tmp_path / "tools" / "jars"
    jars.mkdir(parents=True)
    (jars / "a.jar").touch()
    with pytest.raises(StartError, match="cannot be formatted"):
        format_storage(load_settings(data_dir=tmp_path, tools_dir=tmp_path / "tools"))


def test_no_java_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.broker.find_java", lambda: None)
    with pytest.raises(StartError, match="Java 17"):
        require_java()
