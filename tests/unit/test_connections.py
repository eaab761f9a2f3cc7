"""An open connection is told once, with its maker; a closed one never."""

from __future__ import annotations

import asyncio

from aiokafka.conn import AIOKafkaConnection

from tests.support.connections import watched


def test_an_open_connection_is_told_once_with_its_maker() -> None:
    async def scenario() -> None:
        with watched() as made:
            opened, closed = AIOKafkaConnection("localhost", 1), AIOKafkaConnection("localhost", 2)
            assert made.left() == []
            opened._reader, closed._reader = asyncio.StreamReader(), asyncio.StreamReader()
            closed._reader.feed_eof()
            left = made.left()
            assert len(left) == 1
            assert left[0].startswith("localhost:1, made at")
            assert "test_connections.py" in left[0]
            assert made.left() == []

    asyncio.run(scenario())


def test_none_is_noted_outside() -> None:
    async def scenario() -> None:
        with watched() as made:
            pass
        opened = AIOKafkaConnection("localhost", 1)
        opened._reader = asyncio.StreamReader()
        assert made.left() == []
        opened._reader = None

    asyncio.run(scenario())
