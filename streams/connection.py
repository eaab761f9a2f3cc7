"""Kafka clients: address and credentials of one principal, our defaults, and a bound on every wait.

aiokafka waits without end in several places (a producer whose broker is gone, a stop with batches in hand), so nothing
here or in the modules that use it awaits a client without ``bounded``.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import RetriableError
from streams.topics import MAX_RECORD_BYTES, MIB

T = TypeVar("T")

START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_MS: Final = 8_000  # a frozen broker is noticed after this; leaders move after about 3 s
FETCH_MAX_WAIT_MS: Final = 100  # a waiting fetch returns at once when data arrives; this bounds an idle one
METADATA_MAX_AGE_MS: Final = 3_000
"""After this a client of the data plane knows of partitions that were added; `isos topics grow` waits for it."""
# A record of the largest size plus its batch header must pass the producer's own check.
MAX_REQUEST_BYTES: Final = MAX_RECORD_BYTES + 64 * 1024
PREFETCH_BYTES: Final = 4 * MIB
_ADDRESS: Final = re.compile(r"\('([^']+)', ([0-9]+), ")
LOOPBACK: Final = ("127.0.0.1:", "localhost:", "[::1]:")


class TimedOutError(RetriableError):
    """A wait for a broker or a server took longer than its bound (``seconds``)."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(what, seconds)
        self.what = what
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.what} took longer than {self.seconds:g} s"


class UnreachableError(RetriableError):
    """A client could not connect, or was refused; ``reason`` is the client's own sentence."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.what} failed: {self.reason}"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are and as whom we speak: one per principal; plain text unless told otherwise.

    ``protocol`` is Kafka's security protocol, ``mechanism`` its SASL mechanism (SCRAM-SHA-512, not short-lived tokens:
    the client cannot re-authenticate). ``cafile``, ``certfile`` and ``keyfile`` are PEM files.
    """

    bootstrap: str
    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""
    keypassword: str = field(default="", repr=False)

    @property
    def loopback(self) -> bool:
        """Whether every bootstrap address is on this machine."""
        return all(address.strip().startswith(LOOPBACK) for address in self.bootstrap.split(","))

    def security(self) -> dict[str, Any]:
        """Security arguments for an aiokafka client (and, by the same names, for Faust's credentials)."""
        settings: dict[str, Any] = {"security_protocol": self.protocol}
        if self.mechanism:
            settings |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        if self.protocol in ("SSL", "SASL_SSL"):
            settings["ssl_context"] = self.ssl_context()
        return settings

    def ssl_context(self) -> ssl.SSLContext:
        """TLS context of this principal: verifies the broker, shows our certificate where there is one."""
        context = ssl.create_default_context(cafile=self.cafile or None)
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile or None, self.keypassword or None)
        return context

    def librdkafka(self) -> dict[str, str]:
        """The same settings under librdkafka's names."""
        named = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.user,
            "sasl.password": self.password,
            "ssl.ca.location": self.cafile,
            "ssl.certificate.location": self.certfile,
            "ssl.key.location": self.keyfile,
            "ssl.key.password": self.keypassword,
        }
        return {name: value for name, value in named.items() if value}


def consumer(connection: Connection, *topics: str, **settings: Any) -> AIOKafkaConsumer:
    """Consumer with our defaults: from the earliest offset, no automatic commits, 12 MiB records; not started."""
    defaults: dict[str, Any] = {
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": FETCH_MAX_WAIT_MS,
        "max_partition_fetch_bytes": PREFETCH_BYTES,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "check_crcs": not connection.loopback,
        "exclude_internal_topics": False,
    }
    if settings.get("group_id") is not None:
        # A group's request may wait for the whole session, so it needs the longer time-out.
        defaults["request_timeout_ms"] = max(REQUEST_TIMEOUT_MS, settings.get("session_timeout_ms", 10_000) + 2_000)
    return AIOKafkaConsumer(
        *topics, bootstrap_servers=connection.bootstrap, **connection.security(), **(defaults | settings)
    )


def producer(connection: Connection, **settings: Any) -> AIOKafkaProducer:
    """Producer with our defaults: acks from all, no compression, no linger, 12 MiB records; not started."""
    defaults: dict[str, Any] = {
        "acks": "all",
        "linger_ms": 0,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "max_request_size": MAX_REQUEST_BYTES,
        "max_batch_size": MIB,
    }
    return AIOKafkaProducer(bootstrap_servers=connection.bootstrap, **connection.security(), **(defaults | settings))


async def bounded(awaitable: Awaitable[T], seconds: float, what: str) -> T:
    """Result of ``awaitable``, or TimedOutError naming ``what`` after ``seconds``."""
    try:
        async with asyncio.timeout(seconds) as bound:
            return await awaitable
    except TimeoutError:
        if bound.expired():
            raise TimedOutError(what, seconds) from None
        raise


async def start(client: Any, what: str, seconds: float = START_TIMEOUT_S) -> None:
    """Start a client; a failed one is stopped again. Raises TimedOutError or UnreachableError."""
    try:
        await bounded(client.start(), seconds, what)
    except (KafkaError, OSError) as error:
        await stop_quietly(client)
        raise UnreachableError(what, _said(error)) from error
    except (TimedOutError, asyncio.CancelledError):
        await stop_quietly(client)
        raise


def _said(error: Exception) -> str:
    """The client's sentence; the one about the brokers it was given without what sockets call them."""
    text = str(error) or type(error).__name__
    given = _ADDRESS.findall(text) if "Unable to bootstrap" in text else []
    return f"no broker answers on {', '.join(':'.join(each) for each in given)}" if given else text


async def stop_quietly(client: Any, seconds: float = STOP_TIMEOUT_S) -> bool:
    """Stop a client within ``seconds``; False when it did not stop cleanly, which its owner cannot help any more."""
    # A consumer stopped before its own tasks took their first step raises CancelledError out of stop() and leaks its
    # connection (aiokafka 0.14.0): let them take it.
    await asyncio.sleep(0)
    try:
        await bounded(client.stop(), seconds, "stopping a client")
    except (KafkaError, TimedOutError, OSError):
        return False
    return True
