"""Background traffic of the scripted day: open loops whose rate and rows may be changed while they run."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from streams.client.client import InferenceError, NoResultError

STEP_S: Final = 0.005
MOST_UNDER_WAY: Final = 20_000
"""Bound of what waits for answers over all flows; a flow that reaches it sends on when answers come."""

Inputs = Mapping[str, NDArray[Any]]


class Asks(Protocol):
    """What of a client is used."""

    async def infer(self, model: str, inputs: Inputs, *, timeout_ms: int) -> Any:
        """Ask; raises InferenceError or NoResultError."""


@dataclass(slots=True)
class Flow:
    """Requests of one model. ``rate`` a second; ``inputs`` gives those of the request with a number.

    Counted are the requests sent, the answers OK by version, the others by code, and the OK ones' latencies in ms
    from the scheduled time, with that time (us since the epoch).
    """

    model: str
    inputs: Callable[[int], Inputs]
    rate: float = 0.0
    timeout_ms: int = 20_000
    sent: int = 0
    ok: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[int, float]] = field(default_factory=list)

    @property
    def num_ok(self) -> int:
        """Answers that were OK."""
        return sum(self.ok.values())


class Traffic:
    """Runs flows until it is told to stop; ``async with`` waits for the last answers."""

    def __init__(self, client: Asks, *flows: Flow) -> None:
        self._client = client
        self._flows = flows
        self._under_way: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Traffic:
        """Begin."""
        self._runs = [asyncio.create_task(self._run(flow)) for flow in self._flows]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the flows and wait for what is under way; every request has its own time-out."""
        self._ended.set()
        await asyncio.gather(*self._runs)
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _run(self, flow: Flow) -> None:
        due_s = time.time()
        for number in itertools.count():
            while flow.rate <= 0 or due_s > time.time() or len(self._under_way) >= MOST_UNDER_WAY:
                if self._ended.is_set():
                    return
                if flow.rate <= 0:
                    due_s = time.time()
                await asyncio.sleep(STEP_S)
            if self._ended.is_set():
                return
            flow.sent += 1
            task = asyncio.create_task(self._ask(flow, number, due_s))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due_s += 1 / flow.rate

    async def _ask(self, flow: Flow, number: int, due_s: float) -> None:
        try:
            answer = await self._client.infer(flow.model, flow.inputs(number), timeout_ms=flow.timeout_ms)
        except InferenceError as error:
            flow.failed[error.code] += 1
        except NoResultError:
            flow.failed["no_result"] += 1
        else:
            flow.ok[answer.result.model_version] += 1
            due_us = int(due_s * 1e6)
            flow.latencies.append((due_us, (answer.read_us - due_us) / 1e3))
