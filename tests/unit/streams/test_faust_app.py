"""The settings without which Faust loses records, and the credentials under its names."""

from __future__ import annotations

import sys
from pathlib import Path

import aiokafka
import faust
import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streams import faust_app
from streams.connection import Connection
from streams.errors import InvariantError
from streams.faust_app import _credentials, create_app, require_cython_stream


def test_the_settings_that_measurement_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", aiokafka.AIOKafkaConsumer)  # put back afterwards
    app = create_app("router", Connection("127.0.0.1:1,127.0.0.1:2"), session_timeout_s=9.0, data_dir=str(tmp_path))
    conf = app.conf
    assert app.conf.id == "isos-router"
    assert [str(url) for url in conf.broker] == ["kafka://127.0.0.1:1", "kafka://127.0.0.1:2"]
    assert (conf.stream_wait_empty, conf.topic_allow_declare, conf.autodiscover) == (False, False, False)
    assert (conf.value_serializer, conf.key_serializer) == ("raw", "raw")
    assert conf.web_enabled is False
    assert conf.processing_guarantee == faust.types.enums.ProcessingGuarantee.AT_LEAST_ONCE
    assert conf.broker_session_timeout == 9.0
    assert conf.broker_heartbeat_interval == 2.0
    assert conf.broker_request_timeout >= conf.broker_session_timeout
    assert conf.stream_buffer_maxsize == faust_app.STREAM_BUFFER
    assert conf.producer_acks == -1
    assert aiokafka.AIOKafkaConsumer is faust_app._Consumer


@pytest.mark.parametrize("group", ["g", None])
def test_a_consumer_waits_briefly_and_in_a_group_assigns_by_range(
    group: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(faust_app._Consumer.__base__, "__init__", lambda _self, **options: given.update(options))
    monkeypatch.setattr(faust_app._Consumer.__base__, "__del__", lambda _self: None)
    faust_app._Consumer(group_id=group, fetch_max_wait_ms=1500)
    assert given["fetch_max_wait_ms"] == faust_app.FETCH_MAX_WAIT_MS
    assert given.get("partition_assignment_strategy") == ([RangePartitionAssignor] if group else None)


def test_without_the_compiled_stream_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    require_cython_stream()
    monkeypatch.setitem(sys.modules, "faust._cython.streams", None)
    with pytest.raises(InvariantError, match="compiled stream"):
        require_cython_stream()


def test_credentials() -> None:
    assert _credentials(Connection("x:1")) == {}
    secure = Connection("x:1", protocol="SASL_SSL", mechanism="SCRAM-SHA-512", user="u", password="p")
    made = _credentials(secure)["broker_credentials"]
    assert isinstance(made, faust.SASLCredentials)
    assert (made.username, made.password) == ("u", "p")
    assert made.ssl_context is not None
    assert isinstance(_credentials(Connection("x:1", protocol="SSL"))["broker_credentials"], faust.SSLCredentials)
