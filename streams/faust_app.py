"""The Faust app of an agent, with the settings that measurement and upstream issues taught us.

The app is started by our own code (``await app.start()``), serves no web, declares no topics, and moves raw bytes only.
Its consumer runs in the app's own loop (``streams.faust_transport``).
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any, Final

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped

from streams.connection import METADATA_MAX_AGE_MS, Connection
from streams.errors import InvariantError
from streams.faust_transport import LoopTransport

log = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS: Final = 250
"""Longest idle fetch of a consumer; a record that comes meanwhile ends it at once."""
STREAM_BUFFER: Final = 20_000
BATCH_BYTES: Final = 1 << 20
REQUEST_BYTES: Final = 16 << 20


class _App(faust.App):
    """Faust's app over our transport; ``fetch_max_wait_ms`` is its consumer's."""

    fetch_max_wait_ms = FETCH_MAX_WAIT_MS

    def _new_transport(self) -> LoopTransport:
        return LoopTransport(self.conf.broker_consumer, self)


class _Recovery(Recovery):
    """Faust's step between an assignment and the flow of records, which a time-out does not end for ever.

    Upstream takes a wait that ran out of time for a stop of the service: its task ends, and no later rebalance starts
    the flow again, while the process stays in its group. A process that stood still (SIGSTOP, a suspended machine) or
    whose broker did wakes up with that timer run out. Here the step is taken once more.
    """

    logger = logging.getLogger("faust.isos")  # as loud as Faust's own services

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        try:
            await super()._wait(coro, timeout)
        except ServiceStopped:
            if self.should_stop:
                raise
            log.warning("Faust's wait of %s s for the broker ran out after a rebalance; it is taken again", timeout)
            self.signal_recovery_start.set()
            raise RebalanceAgain from None


class _Tables(TableManager):
    """Faust's manager of tables; we have none, but it runs the recovery."""

    logger = _Recovery.logger

    @property
    def recovery(self) -> Recovery:
        """The recovery above."""
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


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


def create_app(
    name: str,
    connection: Connection,
    *,
    session_timeout_s: float = 6.0,
    data_dir: str,
    fetch_max_wait_ms: int = FETCH_MAX_WAIT_MS,
) -> faust.App:
    """Make the app ``isos-<name>``; its consumer group has the same name."""
    require_cython_stream()
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    app = _App(
        f"isos-{name}",
        broker=";".join(f"kafka://{address}" for address in connection.bootstrap.split(",")),
        autodiscover=False,
        TableManager=_Tables,
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
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
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
    app.fetch_max_wait_ms = fetch_max_wait_ms
    return app
