"""Ask the brokers about topics: a client for it, its answers and failures as ours, descriptions, ids."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streams.connection import Connection, TimedOutError, UnreachableError
from streams.topics import full_name

ADMIN_TIMEOUT_S: Final = 15.0
KNOCK_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.05


def _knock(bootstrap: str) -> None:
    """Notice at once that nobody listens; the client itself would only do so after its time-out."""
    reason = "no address is given"
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            reason = str(error)
        else:
            return
    raise UnreachableError(f"connecting to {bootstrap}", reason)


def admin_client(connection: Connection) -> AdminClient:
    """A client for topics; its caller holds it until the last future is done. Raises UnreachableError."""
    _knock(connection.bootstrap)
    settings: dict[str, Any] = {
        **connection.librdkafka(),
        "socket.nagle.disable": True,
        "socket.timeout.ms": int(ADMIN_TIMEOUT_S * 1000),
        "log_level": 0,
        "error_cb": lambda _error: None,  # what matters comes back from each call
    }
    return AdminClient(settings)


def results_of(what: str, futures: Mapping[str, Future[Any]], known: tuple[int, ...] = ()) -> dict[str, Any]:
    """Results by name without those that failed with a known code; anything else is raised as ours."""
    done: dict[str, Any] = {}
    for name, future in futures.items():
        try:
            done[name] = future.result(ADMIN_TIMEOUT_S)
        except TimeoutError:
            raise TimedOutError(what, ADMIN_TIMEOUT_S) from None
        except KafkaException as error:
            if error.args[0].code() not in known:
                raise UnreachableError(what, error.args[0].str()) from error
    return done


def describe_topics(admin: AdminClient, names: Iterable[str]) -> dict[str, Any]:
    """The broker's descriptions by short name; topics that it does not have are left out."""
    full = {full_name(name): name for name in names}
    futures = admin.describe_topics(TopicCollection(list(full)), request_timeout=ADMIN_TIMEOUT_S)
    found = results_of("describing the topics", futures, (KafkaError.UNKNOWN_TOPIC_OR_PART,))
    return {full[name]: topic for name, topic in found.items()}


def uuid_bytes(uuid: Any) -> bytes:
    """16 bytes, big-endian, of the client's Uuid (two signed 64-bit halves)."""
    halves = (uuid.get_most_significant_bits(), uuid.get_least_significant_bits())
    return b"".join((half & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "big") for half in halves)


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll ``condition`` until it is true. Raises TimedOutError after ``ADMIN_TIMEOUT_S``, naming ``what``."""
    deadline = time.monotonic() + ADMIN_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimedOutError(what, ADMIN_TIMEOUT_S)
        time.sleep(POLL_S)
