"""The prober without a broker: what waits, and that everything that happens to a check is an observation."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from infra.checks import NotRunError
from infra.prober import MARGIN_S, MAX_WAITING, Measures, Waiting, observed
from schemas.check import INTEGRITY, CheckRequest
from schemas.figures import StatisticsFigures
from streams.canonical import to_json
from streams.connection import UnreachableError

FIGURES = StatisticsFigures(100, 3)


def request(number: int = 0, seconds: float = 30.0) -> CheckRequest:
    now_us = time.time_ns() // 1000
    times = now_us, now_us + int(seconds * 1e6)
    return CheckRequest(f"o/{number}", INTEGRITY, "digits", "v1.0.0", "", "", "operator", *times)


class Measured:
    """Measures by raising or giving what it was made with; an endless one never ends."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.until_s = 0.0

    async def measure(self, request: CheckRequest, until_s: float) -> tuple[int, Any]:
        self.until_s = until_s
        if self.outcome == "endless":
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return 100, self.outcome


def run(given: CheckRequest, outcome: Any) -> Any:
    measured = Measured(outcome)

    async def opened() -> Measures:
        return measured

    return asyncio.run(observed(given, opened)), measured


def test_what_was_measured_is_an_observation() -> None:
    given = request()
    observation, measured = run(given, FIGURES)
    assert (observation.request, observation.has_run, observation.problem) == (given, True, "")
    assert (observation.num_samples, observation.figures) == (100, to_json(FIGURES))
    assert given.requested_us <= observation.started_us <= observation.observed_us
    assert measured.until_s < time.monotonic() + 30 - MARGIN_S + 0.5


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (NotRunError("There is no golden set."), "There is no golden set."),
        (UnreachableError("reading", "it is away"), "reading"),
        (ValueError("of ours"), "A defect of ours: ValueError."),
    ],
)
def test_what_goes_wrong_is_one_too(outcome: Exception, said: str) -> None:
    observation, _ = run(request(), outcome)
    assert (observation.has_run, observation.figures, observation.num_samples) == (False, "", 0)
    assert said in observation.problem


def test_a_check_ends_with_its_time() -> None:
    observation, _ = run(request(seconds=MARGIN_S + 0.01), "endless")
    assert (observation.has_run, observation.problem) == (False, "It did not end before its deadline.")
    observation, _ = run(request(seconds=MARGIN_S - 0.1), FIGURES)
    assert (observation.has_run, observation.problem) == (False, "It came too late to be run.")


def test_requests_wait_once_each_in_order_and_within_bounds() -> None:
    async def script() -> None:
        now_us = time.time_ns() // 1000
        waiting = Waiting(["o/7"])
        assert waiting.add(request(7), now_us)
        assert waiting.add(request(8, seconds=-1), now_us)
        assert len(waiting) == 0
        for number in (1, 2, 1):
            assert waiting.add(request(number), now_us)
        assert [(await waiting.take()).request_id for _ in range(2)] == ["o/1", "o/2"]
        taking = asyncio.ensure_future(waiting.take())
        await asyncio.sleep(0)
        assert not taking.done()
        waiting.add(request(3), now_us)
        assert (await taking).request_id == "o/3"
        for number in range(100, 100 + MAX_WAITING):
            assert waiting.add(request(number), now_us)
        assert not waiting.add(request(999), now_us)

    asyncio.run(script())
