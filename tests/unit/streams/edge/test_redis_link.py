"""Commands and answers as bytes, and one connection with a server that answers as the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from streams.edge.redis_link import RedisLink, packed, parsed


def test_a_command_is_an_array_of_strings() -> None:
    assert packed([b"SET", "clé", 5, 2.5]) == b"*4\r\n$3\r\nSET\r\n$4\r\ncl\xc3\xa9\r\n$1\r\n5\r\n$3\r\n2.5\r\n"


ANSWERS = [
    (b"+OK\r\n", b"OK"),
    (b":-3\r\n", -3),
    (b"$-1\r\n", None),
    (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
    (b"*2\r\n*1\r\n:1\r\n*0\r\n", [[1], []]),
]


@pytest.mark.parametrize(("data", "answer"), ANSWERS)
def test_answers_are_read_whole_or_not_at_all(data: bytes, answer: Any) -> None:
    assert parsed(b"xx" + data + b"rest", 2) == (answer, 2 + len(data))
    for size in range(len(data)):
        with pytest.raises(EOFError):
            parsed(data[:size], 0)


@pytest.mark.parametrize("data", [b"?what\r\n", b"$x\r\n", b"*99999999999\r\n", b"$99999999999\r\n"])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(data, 0)


def test_an_error_is_an_answer() -> None:
    error, _ = parsed(b"-ERR no\r\n", 0)
    assert (type(error), str(error)) == (ResponseError, "ERR no")


class Server:
    """Reads commands; ``answers`` gives what is sent for each, None for nothing."""

    def __init__(self) -> None:
        self.answers: Callable[[list[bytes]], bytes | None] = lambda _: b"+OK\r\n"
        self.commands: list[list[bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                command = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    command.append((await reader.readexactly(size + 2))[:-2])
                self.commands.append(command)
                if (answer := self.answers(command)) is not None:
                    for at in range(0, len(answer), 3):  # in pieces
                        writer.write(answer[at : at + 3])
                        await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def linked(path: str = "") -> AsyncIterator[tuple[Server, RedisLink]]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    link = RedisLink(
        f"redis://{path.partition('@')[0] + '@' if '@' in path else ''}127.0.0.1:{port}/{path.rpartition('@')[2]}"
    )
    try:
        yield server, link
    finally:
        await link.aclose()
        listening.close()
        for writer in server.writers:
            writer.close()
        await listening.wait_closed()


async def test_the_first_call_logs_in_and_chooses_the_database() -> None:
    async with linked("me:p%40ss@3") as (server, link):
        await link.set("k", 5)
        await link.set("k", 6)
    assert server.commands == [[b"AUTH", b"me", b"p@ss"], [b"SELECT", b"3"], [b"SET", b"k", b"5"], [b"SET", b"k", b"6"]]
    assert len(server.writers) == 1


async def test_calls_at_once_get_their_own_answers() -> None:
    async with linked() as (server, link):
        server.answers = lambda command: b":%d\r\n" % int(command[-1])
        script = link.register_script("return ARGV[1]")
        assert await asyncio.gather(*[script(args=[n]) for n in range(20)]) == list(range(20))
    assert len(server.writers) == 1


async def test_a_script_that_redis_does_not_know_is_sent_whole() -> None:
    async with linked() as (server, link):
        server.answers = lambda command: b"-NOSCRIPT none\r\n" if command[0] == b"EVALSHA" else b":1\r\n"
        assert await link.register_script("return 1")(args=[b"x"]) == 1
        assert server.commands[-1] == [b"EVAL", b"return 1", b"0", b"x"]
        server.answers = lambda command: b"-OOM no\r\n"
        with pytest.raises(ResponseError, match="OOM"):
            await link.register_script("return 1")(args=[])


async def test_a_call_that_ran_out_of_time_closes_the_connection_and_the_next_opens_one() -> None:
    async with linked() as (server, link):
        script = link.register_script("return 1")
        server.answers = lambda command: None
        other = asyncio.ensure_future(script(args=[1]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await script(args=[2])
        with pytest.raises(RedisConnectionError):
            await other
        server.answers = lambda command: b":7\r\n"
        assert await script(args=[3]) == 7
    assert len(server.writers) == 2


async def test_a_server_that_leaves_or_lies_ends_the_calls() -> None:
    async with linked() as (server, link):
        script = link.register_script("return 1")
        server.answers = lambda command: b"?lie\r\n"
        with pytest.raises(RedisConnectionError):
            await script(args=[])
        server.answers = lambda command: server.writers[-1].close()
        with pytest.raises(RedisConnectionError):
            await script(args=[])
    with pytest.raises(OSError, match=r"."):
        await script(args=[])
