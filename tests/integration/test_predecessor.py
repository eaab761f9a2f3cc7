"""A member that was killed is taken out of its group by its successor: no partition waits for the session time-out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from streams.connection import Connection, consumer, start, stop_quietly
from streams.faust_app import create_app
from streams.faust_transport import member_of
from streams.predecessor import MemberNote
from tests.support.broker import unique
from tests.support.topics import create_topics

SESSION_MS = 60_000
MEMBER = f"""
import asyncio, sys
from pathlib import Path
from streams.committed import CommittedConsumer
from streams.connection import Connection, consumer
from streams.predecessor import MemberNote

async def main(bootstrap, group, topic, path):
    member = consumer(Connection(bootstrap), group_id=group, session_timeout_ms={SESSION_MS})
    await member.start()
    source = CommittedConsumer(member, topic)
    note = MemberNote(Path(path))
    source.on_assigned = lambda member_id: note.write(group, member_id)
    source.subscribe()
    while not source.joined.is_set():
        await source.read(timeout_ms=100, max_records=1)
    print("joined", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(120)
async def test_a_killed_member_is_taken_out_by_its_successor(bootstrap, tmp_path):
    topic, group, path = unique("predecessor"), unique("group"), tmp_path / "edge-0.member"
    create_topics(bootstrap, topic)
    with subprocess.Popen(
        [sys.executable, "-c", MEMBER, bootstrap, group, topic, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "joined\n"
        process.kill()
    connection = Connection(bootstrap)
    assert await MemberNote(path).leave(connection)
    assert not await MemberNote(path).leave(connection)  # once is enough
    began = time.monotonic()
    successor = consumer(connection, topic, group_id=group, session_timeout_ms=SESSION_MS)
    await start(successor, "joining")
    try:
        while not successor.assignment():
            await successor.getmany(timeout_ms=50)
        assert time.monotonic() - began < SESSION_MS / 1000 / 3
    finally:
        await stop_quietly(successor)


async def test_a_note_of_nobody_harms_nobody(bootstrap, tmp_path):
    note = MemberNote(tmp_path / "edge-0.member")
    note.write(unique("group"), "nobody")
    assert not await note.leave(Connection(bootstrap))


@pytest.mark.timeout(120)
async def test_a_faust_member_that_was_taken_out_and_lives_joins_again(bootstrap, tmp_path):
    """Its note names the member that the broker knows."""
    name = unique("predecessor-faust")
    create_topics(bootstrap, name)
    app = create_app(name, Connection(bootstrap), data_dir=str(tmp_path))
    topic = app.topic(name, value_type=bytes, value_serializer="raw", key_serializer="raw")

    async def collect(stream):
        async for event in stream.noack().events():
            event.ack()

    app.agent(topic, name=name)(collect)
    note, noted = MemberNote(tmp_path / "router-0.member"), asyncio.Queue()

    async def write(*_given, **_named):
        note.write(app.conf.id, member_of(app))
        noted.put_nowait(member_of(app))

    app.on_partitions_assigned.connect(write)
    await app.start()
    try:
        async with asyncio.timeout(60):
            first = await noted.get()
            assert await note.leave(Connection(bootstrap))
            assert await noted.get() != first
    finally:
        async with asyncio.timeout(30):
            await app.stop()
