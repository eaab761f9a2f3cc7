"""The Faust app of an agent, with the settings that measurement and upstream issues taught us.

The app is started by our own code (``await app.start()``), serves no web, declares no topics, and moves raw bytes only.
Its consumer waits 100 ms at most in an idle fetch (the driver's 1,500 ms is hard-coded) and assigns by range, so that
partition 0 of all of an agent's one-partition topics goes to the same instance.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

import aiokafka
import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streams.connection import Connection
from streams.errors import InvariantError

FETCH_MAX_WAIT_MS: Final = 100
STREAM_BUFFER: Final = 20_000
BATCH_BYTES: Final = 1 << 20
REQUEST_BYTES: Final = 16 << 20


class _Consumer(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]
    """The driver's consumer with our idle wait and range assignment (only for consumers in a group)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["fetch_max_wait_ms"] = FETCH_MAX_WAIT_MS
        if options.get("group_id"):
            options["partition_assignment_strategy"] = [RangePartitionAssignor]
        super().__init__(*args, **options)


def require_cython_stream() -> None:
    """Refuse to run on Faust's pure Python stream, which acknowledges events it skips on a rebalance."""
    try:
        importlib.import_module("faust._cython.streams")
    except ImportError as error:
        raise InvariantError(
            "faust's compiled stream is missing; install the wheel of faust-streaming for this platform"
        ) from error


def _credentials(connection: Connection) -> dict[str, Any]:
    """The principal's credentials under Faust's names; nothing for plain text."""
    if connection.protocol == "PLAINTEXT":
        return {}
    context = connection.ssl_context() if connection.protocol.endswith("SSL") else None
    if connection.mechanism:
        return {
            "broker_credentials": faust.SASLCredentials(
                username=connection.user,
                password=connection.password,
                mechanism=connection.mechanism,
                ssl_context=context,
            )
        }
    return {"broker_credentials": faust.SSLCredentials(context)}


def create_app(name: str, connection: Connection, *, session_timeout_s: float = 6.0, data_dir: str) -> faust.App:
    """Make the app ``isos-<name>``; its consumer group has the same name."""
    require_cython_stream()
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    aiokafka.AIOKafkaConsumer = _Consumer  # the driver looks it up in the package at each start
    return faust.App(
        f"isos-{name}",
        broker=";".join(f"kafka://{address}" for address in connection.bootstrap.split(",")),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        datadir=data_dir,
        value_serializer="raw",
        key_serializer="raw",
        stream_wait_empty=False,
        stream_buffer_maxsize=STREAM_BUFFER,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=REQUEST_BYTES,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=min(2.0, session_timeout_s / 3),
        broker_request_timeout=max(10.0, session_timeout_s + 1),
        broker_rebalance_timeout=max(10.0, session_timeout_s),
        broker_commit_interval=1.0,
        broker_check_crcs=False,
        producer_acks=-1,
        producer_linger=0,
        producer_max_batch_size=BATCH_BYTES,
        producer_max_request_size=REQUEST_BYTES,
        producer_request_timeout=30.0,
        consumer_connections_max_idle_ms=540_000,
        **_credentials(connection),
    )
