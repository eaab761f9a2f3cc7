"""The client for code that knows no event loop: the same methods, each returning when its answer is there.

    with SyncClient() as isos:
        answer = isos.infer("digits", {"image": images})

A thread of its own runs the asynchronous client, so it works in a notebook and may be used from several threads.
Ctrl-C during a call gives the call up and leaves the client usable; a program that forgets to close ends all the same.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from schemas.request import BlobRef, InferenceRequest
from streams.client.answer import Answer
from streams.client.client import MAX_IN_FLIGHT, Client
from streams.client.request import DEFAULT_WAIT_S, Request
from streams.connection import Connection, UnreachableError
from streams.errors import IsosError
from streams.tensors import Array

T = TypeVar("T")
Work = Callable[[Client], Coroutine[Any, Any, T]]
Records = Iterable[Request | InferenceRequest]


class _Running:
    """A client on a loop in a thread of its own. Not to be used from that thread."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._opened: Future[Client] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._lock = threading.Lock()
        self._closed = False
        # A daemon: the interpreter does not wait for it, and a forgotten client holds nothing that must be written.
        self._thread = threading.Thread(target=self._run, name="isos-client", daemon=True)
        self._thread.start()
        try:
            self.client = self._opened.result()
        except BaseException:  # also Ctrl-C while it connects
            self.close()
            raise

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        opening = asyncio.create_task(self._make().__aenter__())
        opening.add_done_callback(self._tell)
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        client = (await asyncio.gather(opening, return_exceptions=True))[0]
        if isinstance(client, Client):
            await stopping
            await client.close()

    def _tell(self, opening: asyncio.Task[Client]) -> None:
        if opening.cancelled():
            self._opened.cancel()
        elif (error := opening.exception()) is not None:
            self._opened.set_exception(error)
        else:
            self._opened.set_result(opening.result())

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin something on the loop. Raises UnreachableError after ``close``."""
        with self._lock:
            if self._closed:
                work.close()
                raise UnreachableError("using the client", "it was closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the loop and its thread. What still waits fails."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with suppress(RuntimeError):  # the loop has ended already: the client did not open
                    self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class SyncClient:
    """Connects on ``with``, or on ``open``. The arguments are those of ``Client``."""

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        connection: Connection | None = None,
        tenant: str = "default",
        max_in_flight: int = MAX_IN_FLIGHT,
        partitions: int = 1,
    ) -> None:
        self.max_in_flight = max_in_flight
        self._make = lambda: Client(
            bootstrap, connection=connection, tenant=tenant, max_in_flight=max_in_flight, partitions=partitions
        )
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def open(self) -> Self:
        """Connect, unless it is connected. Raises RetriableError."""
        with self._lock:
            if self._running is None:
                self._running = _Running(self._make)
        return self

    def close(self) -> None:
        """Disconnect; calls of other threads end with UnreachableError. May be repeated."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, work: Work[T]) -> Future[T]:
        running = self._running
        if running is None:
            raise UnreachableError("using the client", "it is not open: use `with SyncClient() as isos`")
        return running.start(work(running.client))

    def _wait(self, work: Work[T]) -> T:
        return _result(self._start(work))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: str | None = None,
        timeout_ms: int = 0,
        priority: int = 5,
        routing_key: str | None = None,
        request_id: str | None = None,
        blob: BlobRef | None = None,
        wait_s: float | None = None,
    ) -> Answer:
        """See ``Client.infer``."""
        request = Request(model, inputs, version, priority, timeout_ms, routing_key, request_id, blob)
        return self.submit(request, wait_s=wait_s).raise_for_status()

    def submit(
        self, request: Request | InferenceRequest, *, wait_s: float | None = None, partition: int | None = None
    ) -> Answer:
        """See ``Client.submit``."""
        return self._wait(lambda client: client.submit(request, wait_s=wait_s, partition=partition))

    def exchange(self, value: bytes | None, key: bytes | None = None, *, wait_s: float = DEFAULT_WAIT_S) -> Answer:
        """See ``Client.exchange``."""
        return self._wait(lambda client: client.exchange(value, key, wait_s=wait_s))

    @overload
    def infer_many(
        self, requests: Records, *, wait_s: float | None = ..., return_exceptions: Literal[False] = ...
    ) -> list[Answer]: ...
    @overload
    def infer_many(
        self, requests: Records, *, wait_s: float | None = ..., return_exceptions: bool
    ) -> list[Answer | IsosError]: ...
    def infer_many(
        self, requests: Records, *, wait_s: float | None = None, return_exceptions: bool = False
    ) -> list[Answer] | list[Answer | IsosError]:
        """See ``Client.infer_many``; the requests are gathered first."""
        every = list(requests)  # in the caller's thread: its iterable may wait for something
        return self._wait(lambda client: client.infer_many(every, wait_s=wait_s, return_exceptions=return_exceptions))

    def submit_many(self, requests: Records, *, wait_s: float | None = None) -> list[Answer]:
        """See ``Client.submit_many``; the requests are gathered first."""
        every = list(requests)
        return self._wait(lambda client: client.submit_many(every, wait_s=wait_s))

    @overload
    def stream(
        self,
        requests: Records,
        *,
        ordered: bool = ...,
        wait_s: float | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Generator[Answer, None, None]: ...
    @overload
    def stream(
        self, requests: Records, *, ordered: bool = ..., wait_s: float | None = ..., return_exceptions: bool
    ) -> Generator[Answer | IsosError, None, None]: ...
    def stream(
        self,
        requests: Records,
        *,
        ordered: bool = False,
        wait_s: float | None = None,
        return_exceptions: bool = False,
    ) -> Generator[Any, None, None]:
        """See ``Client.stream``; requests are taken from the iterable in the caller's thread, as there is room."""
        pending: deque[Future[Answer]] = deque()
        done: queue.SimpleQueue[Future[Answer]] = queue.SimpleQueue()
        under_way: set[Future[Answer]] = set()

        def begin(request: Request | InferenceRequest) -> None:
            future = self._start(lambda client: client.submit(request, wait_s=wait_s))
            under_way.add(future)
            if ordered:
                pending.append(future)
            else:
                future.add_done_callback(done.put)

        def next_one() -> Answer | IsosError:
            future = pending.popleft() if ordered else done.get()
            try:
                return _result(future)
            except IsosError as error:
                if not return_exceptions:
                    raise
                return error
            finally:
                under_way.discard(future)

        try:
            for request in requests:
                begin(request)
                if len(under_way) >= self.max_in_flight:
                    yield next_one()
            while under_way:
                yield next_one()
        finally:
            for future in list(under_way):
                future.cancel()


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError:
        raise UnreachableError("waiting for a result", "the client was closed") from None
    except BaseException:  # Ctrl-C among others: the call is given up with it
        future.cancel()
        raise
