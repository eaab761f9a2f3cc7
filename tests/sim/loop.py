"""A deterministic asyncio loop that runs only when the scheduler says so, some callbacks at a time.

One per simulated process: a process that is not picked is slow, one that is frozen is not picked at all, and one that
is killed has its loop thrown away between any two callbacks. Time is the world's. Tasks and futures hash by a number of
their own, so that sets of them are gone through in the same order in every process.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

PRUNE_AT = 64


if TYPE_CHECKING:
    _Loop: Any  # its 60 abstract methods are not for us: whoever calls one gets NotImplementedError
else:
    _Loop = asyncio.AbstractEventLoop


class SimTask(asyncio.Task[Any]):
    """A task with an order of its own."""

    def __init__(self, coro: Coroutine[Any, Any, Any], loop: Any, name: str | None, context: Any = None) -> None:
        self.serial: int = loop.number()
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.serial


class SimFuture(asyncio.Future[Any]):
    """A future with an order of its own."""

    def __init__(self, loop: Any) -> None:
        self.serial: int = loop.number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.serial


class SimLoop(_Loop):  # type: ignore[misc]
    """``clock_s`` gives the time; ``errors`` collects what callbacks raised, which is a defect of ours."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.clock_s = clock_s
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.tasks: list[SimTask] = []
        self.errors: list[BaseException] = []
        self._serial = 0
        self._prune_at = PRUNE_AT

    # What the scheduler asks.

    def next_s(self) -> float:
        """When the next callback may run: 0 = now, infinite = never by itself."""
        if self.ready:
            return 0.0
        while self.timers and self.timers[0][2].cancelled():
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else float("inf")

    def run_some(self, most: int) -> int:
        """Run up to ``most`` callbacks that are due; returns how many ran."""
        now = self.clock_s()
        while self.timers and self.timers[0][0] <= now:
            handle: asyncio.Handle = heapq.heappop(self.timers)[2]
            self.ready.append(handle)
        done = 0
        asyncio._set_running_loop(self)
        try:
            while self.ready and done < most:
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
                    done += 1
        finally:
            asyncio._set_running_loop(None)
        return done

    def destroy(self) -> None:
        """Unwind every task; the owner has made sure that nothing they do has an effect."""
        for _ in range(20):
            left = [task for task in self.tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            for _, _, timer in sorted(self.timers, key=lambda each: each[:2]):
                self.ready.append(timer)
            self.timers = []
            self.run_some(2_000)
        self.ready.clear()

    def number(self) -> int:
        """The next serial number."""
        self._serial += 1
        return self._serial

    # What asyncio asks.

    def time(self) -> float:
        return self.clock_s()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.clock_s() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self.timers, (when, self.number(), handle))
        return handle

    def create_future(self) -> SimFuture:
        return SimFuture(self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None, **_: Any) -> SimTask:
        task = SimTask(coro, self, name, context)
        self.tasks.append(task)
        if len(self.tasks) > self._prune_at:
            self.tasks = [each for each in self.tasks if not each.done()]
            self._prune_at = 2 * len(self.tasks) + PRUNE_AT
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Work of a thread: done at once, answered later."""
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - whatever a thread raises is raised where it is awaited
            self.call_soon(_settle, future, None, error)
        else:
            self.call_later(0.002, _settle, future, result, None)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by a handle that is cancelled; it is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and "callback" in str(context.get("message")):
            self.errors.append(error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
