"""The broadcast reader on a real broker: markers at the end, own writes read, and a broker that is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.connection import Connection
from streams.errors import RetriableError
from streams.fenced import FencedWriter
from streams.partition_log import KafkaLog, LogRecord, LogWriter
from streams.watch import PartitionWatch
from tests.support.broker import Servers, start_servers, unique
from tests.support.topics import create_topics


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """A broker of our own, which may be killed."""
    with start_servers() as servers:
        yield servers


def broker_pid(servers: Servers) -> int:
    """Process id of the broker that this module started, by its data folder on the command line or in its files."""
    folder = str(servers.settings.data_dir)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "kafka.Kafka" in command and folder in command:
            return int(path.parent.name)
    raise AssertionError(f"no broker runs on {folder}")


async def claim_again(connection: Connection, topic: str) -> LogWriter:
    """A claim as soon as the broker is back."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await KafkaLog(connection).claim(topic, 0)
        except RetriableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)


async def test_ready_behind_a_marker_and_reads_its_writes(bootstrap: str) -> None:
    topic = unique("watched")
    create_topics(bootstrap, topic)
    connection = Connection(bootstrap)
    writer = await FencedWriter.claim(connection, topic, 0)
    for number in range(500):
        last = await writer.send(b"k", b"%d" % number)
    successor = await FencedWriter.claim(connection, topic, 0)  # the log ends in its marker
    seen: list[LogRecord] = []
    watch = PartitionWatch(connection, topic, seen.extend)
    await watch.start(20)
    assert [record.value for record in seen] == [b"%d" % number for number in range(500)]
    assert watch.position > last + 1
    offset = await successor.send(b"k", b"mine")
    await watch.wait_for_offset(offset, 10)
    assert seen[-1].value == b"mine"
    await watch.stop()
    await writer.stop()
    await successor.stop()


@pytest.mark.timeout(120)
async def test_a_killed_broker_repeats_and_loses_nothing(own_servers: Servers) -> None:
    topic = unique("killed")
    create_topics(own_servers.bootstrap, topic)
    connection = Connection(own_servers.bootstrap)
    seen: list[LogRecord] = []
    watch = PartitionWatch(connection, topic, seen.extend)
    writer = await FencedWriter.claim(connection, topic, 0)
    await writer.send(b"k", b"before")
    await watch.start(20)
    os.kill(broker_pid(own_servers), signal.SIGKILL)
    await writer.stop()
    successor = await claim_again(connection, topic)
    offset = await successor.send(b"k", b"after")
    await watch.wait_for_offset(offset, 30)
    assert [record.value for record in seen] == [b"before", b"after"]
    await watch.stop()
    await successor.stop()
