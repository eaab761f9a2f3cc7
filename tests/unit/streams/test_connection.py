"""Settings per principal, and bounds on every wait."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from aiokafka.errors import KafkaConnectionError

from streams.connection import Connection, TimedOutError, UnreachableError, bounded, consumer, producer, start
from streams.connection import stop_quietly as stop
from streams.errors import RetriableError

HERE = Connection("127.0.0.1:1")


class Stuck:
    """A client that neither starts nor stops."""

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await asyncio.Event().wait()


class Refused:
    """A client whose broker refuses it; ``stopped`` counts stops."""

    stopped = 0

    async def start(self) -> None:
        raise ConnectionRefusedError(111, "refused")

    async def stop(self) -> None:
        self.stopped += 1


async def test_bounded_gives_the_result_or_names_what_took_too_long() -> None:
    async def answer() -> int:
        return 7

    assert await bounded(answer(), 1, "a quick call") == 7
    with pytest.raises(TimedOutError, match=r"a stuck call took longer than 0\.01 s"):
        await bounded(asyncio.Event().wait(), 0.01, "a stuck call")
    assert issubclass(TimedOutError, RetriableError)


async def test_a_timeout_inside_is_not_taken_for_ours() -> None:
    async def inner() -> None:
        raise TimeoutError("inner")

    with pytest.raises(TimeoutError, match="inner"):
        await bounded(inner(), 5, "outer")


class StuckStart(Stuck):
    """A client that never starts, but stops."""

    async def stop(self) -> None:
        return


async def test_starting_and_stopping_never_hang() -> None:
    with pytest.raises(TimedOutError):
        await start(StuckStart(), "starting", 0.01)
    assert await stop(Stuck(), 0.01) is False
    refused = Refused()
    with pytest.raises(UnreachableError, match="refused"):
        await start(refused, "starting")
    assert refused.stopped == 1
    assert await stop(refused) is True


async def test_a_broker_that_is_away_is_told_by_its_address() -> None:
    class Away(Refused):
        async def start(self) -> None:
            hosts = [("127.0.0.1", 19092, socket.AF_INET), ("broker-2", 9092, socket.AF_UNSPEC)]
            raise KafkaConnectionError(f"Unable to bootstrap from {hosts}")

    with pytest.raises(UnreachableError) as away:
        await start(Away(), "connecting")
    assert str(away.value) == "connecting failed: no broker answers on 127.0.0.1:19092, broker-2:9092"


def test_plain_text_by_default_and_passwords_are_not_shown() -> None:
    assert HERE.security() == {"security_protocol": "PLAINTEXT"}
    assert HERE.librdkafka() == {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "PLAINTEXT"}
    assert "secret" not in repr(Connection("b:1", password="secret", keypassword="secret"))


def test_credentials_reach_both_client_libraries() -> None:
    there = Connection("b:1", "SASL_SSL", "SCRAM-SHA-512", "edge", "secret")
    security = there.security()
    assert isinstance(security.pop("ssl_context"), ssl.SSLContext)
    assert security == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "edge",
        "sasl_plain_password": "secret",
    }
    assert there.librdkafka()["sasl.username"] == "edge"


@pytest.mark.parametrize(
    ("bootstrap", "loopback"), [("127.0.0.1:1,localhost:2", True), ("127.0.0.1:1,kafka:9092", False), ("k:1", False)]
)
def test_checksums_are_skipped_on_loopback_only(bootstrap: str, loopback: bool) -> None:
    assert Connection(bootstrap).loopback is loopback


async def test_clients_have_our_defaults_and_take_others() -> None:
    reader = consumer(HERE, "t", fetch_max_wait_ms=7)
    grouped = consumer(HERE, "t", group_id="g", session_timeout_ms=20_000)
    writer = producer(HERE)
    try:
        assert reader._enable_auto_commit is False
        assert reader._fetch_max_wait_ms == 7
        assert reader._check_crcs is False
        assert grouped._request_timeout_ms == 22_000
        assert writer._sender._acks == -1
    finally:
        for client in (reader, grouped, writer):
            await stop(client)
