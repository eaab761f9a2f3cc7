"""The settings without which Faust loses records, and the credentials under its names."""

from __future__ import annotations

import sys
from pathlib import Path

import faust
import pytest

from streams import faust_app
from streams.connection import Connection
from streams.errors import InvariantError
from streams.faust_app import _credentials, create_app, require_cython_stream
from streams.faust_transport import LoopTransport


def test_the_settings_that_measurement_taught(tmp_path: Path) -> None:
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
    assert isinstance(app.transport, LoopTransport)


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
