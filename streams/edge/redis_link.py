"""One connection to Redis for scripts: what the edge asks each tick, written straight to the socket.

A general client takes some 110 us of CPU for a call; this takes 20. It speaks RESP2, keeps one connection, sends calls
one after another without waiting for answers (Redis answers in order), and loads scripts by their SHA-1. A call that is
cancelled, also by a time-out, closes the connection, because its answer would be somebody else's; the next one opens it
again. Retries are the callers'.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

CLOSED: Final = "the connection to Redis was closed"
NO_SCRIPT: Final = "NOSCRIPT"
PORT: Final = 6379
MAX_BYTES: Final = 64 << 20
"""Of one answer."""

Script = Callable[..., Awaitable[Any]]


class RedisLink:
    """A connection that is opened by the first call. ``url``: redis:// or rediss://, user, password, database.

    Calls raise RedisError or OSError.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._wire: _Wire | None = None
        self._opening = asyncio.Lock()

    def register_script(self, text: str) -> Script:
        """A function that runs a script without keys with ``args``."""
        name = sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

        async def run(*, args: Sequence[Any]) -> Any:
            try:
                return await self._call(b"EVALSHA", name, 0, *args)
            except ResponseError as error:
                if not str(error).startswith(NO_SCRIPT):
                    raise
            return await self._call(b"EVAL", text.encode(), 0, *args)

        return run

    async def set(self, key: str, value: Any) -> None:
        """SET without an expiry."""
        await self._call(b"SET", key, value)

    async def aclose(self) -> None:
        """Close the connection; calls under way fail."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    async def _call(self, *parts: Any) -> Any:
        wire = self._wire
        if wire is None or wire.is_closed:
            async with self._opening:
                wire = self._wire
                if wire is None or wire.is_closed:
                    wire = await self._open()
        return await wire.ask(parts)

    async def _open(self) -> _Wire:
        url = self._url
        _, wire = await asyncio.get_running_loop().create_connection(
            _Wire, url.hostname or "127.0.0.1", url.port or PORT, ssl=url.scheme == "rediss" or None
        )
        try:
            if url.password:
                user = [unquote(url.username)] if url.username else []
                await wire.ask([b"AUTH", *user, unquote(url.password)])
            if database := url.path.strip("/"):
                await wire.ask([b"SELECT", database])
        except BaseException:  # also a cancelled one: nobody else would close it
            wire.close()
            raise
        self._wire = wire
        return wire


class _Wire(asyncio.Protocol):
    """Sends commands and gives each the answer at its turn."""

    def __init__(self) -> None:
        self.is_closed = False
        self._transport: Any = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(RedisConnectionError(CLOSED))

    async def ask(self, parts: Sequence[Any]) -> Any:
        if self.is_closed:
            raise RedisConnectionError(CLOSED)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._transport.write(packed(parts))
        try:
            return await future
        except asyncio.CancelledError:
            self.close()
            raise

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        try:
            while at < len(buffer):
                answer, at = parsed(buffer, at)
                if not self._waiting:
                    raise ValueError("an answer that nobody asked for")
                future = self._waiting.popleft()
                if future.done():
                    continue
                if isinstance(answer, ResponseError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except EOFError:
            pass  # the rest is on its way
        except ValueError:
            self.close()
            return
        self._buffer = buffer[at:]
        if len(self._buffer) > MAX_BYTES:
            self.close()


def packed(parts: Sequence[Any]) -> bytes:
    """A command: bytes as they are, text in UTF-8, numbers in decimal."""
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        if not isinstance(part, bytes):
            part = part.encode() if isinstance(part, str) else repr(part).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(part), part))
    return b"".join(out)


def parsed(data: bytes, at: int) -> tuple[Any, int]:
    """The answer at ``at``, and the index behind it. EOFError when it is cut off, ValueError when it is none."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise EOFError
    kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
    if kind == b"+":
        return line, at
    if kind == b"-":
        return ResponseError(line.decode(errors="replace")), at
    number = int(line)
    if kind == b":":
        return number, at
    if kind == b"$" and number <= MAX_BYTES:
        if number < 0:
            return None, at
        if len(data) < at + number + 2:
            raise EOFError
        return data[at : at + number], at + number + 2
    if kind == b"*" and number <= MAX_BYTES:
        items = []
        for _ in range(number):
            item, at = parsed(data, at)
            items.append(item)
        return items, at
    raise ValueError(f"{kind!r} begins no answer")
