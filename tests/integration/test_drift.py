"""Drift through a whole stack: rotated digits are alerted with evidence, and the alert ends when they are as before."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.digits import Digits, prepare, rotated
from infra.log_reader import LogReader
from schemas.review import Validation
from schemas.telemetry import Alert
from streams.client.client import Client
from streams.client.request import Request
from streams.connection import Connection
from tests.support.stack import SESSION_S, RunningStack, stack_settings

pytestmark = pytest.mark.timeout(240)

PATIENCE_S = 90.0
WINDOW_S = 6


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    settings = stack_settings(
        tmp_path_factory.mktemp("drift"), session_timeout_s=SESSION_S, partitions=1, statistics_s=0.5,
        drift_window_s=WINDOW_S, drift_min_rows=100,
    )  # fmt: skip
    with RunningStack(settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def digits(stack: RunningStack) -> Digits:
    """The demonstration's model, registered; the held-out images are its reference."""
    made = prepare(stack.settings.tools_dir / "digits")
    flags = ("--name", "digits", "--version", "v1.0.0", "--manifest", str(made.manifest))
    stack.isos("models", "register", str(made.model), *flags)
    shown = stack.isos_json("models", "reference", "digits", "--data", str(made.heldout))
    assert (shown["version"], shown["num_rows"], shown["source"]) == ("v1.0.0", 540, "heldout.npz")
    assert [each["measure"] for each in shown["measures"]][-2:] == ["classes[0]", "scores.largest"]
    return made


class Traffic:
    """Asks for digits, as fast as they are answered."""

    def __init__(self, stack: RunningStack, client: Client) -> None:
        self.client = client
        self.connection = Connection(stack.settings.bootstrap)
        self.rng = np.random.default_rng(5)

    async def ask(self, images: Any, count: int = 40) -> None:
        picked = self.rng.integers(0, len(images), count)
        asked = [self.client.submit(Request("digits", {"image": images[at][None]})) for at in picked]
        answers = await asyncio.gather(*asked)
        assert {answer.result.status for answer in answers} == {"OK"}

    async def ask_until(self, images: Any, done: Callable[[], Awaitable[Any]], what: str) -> Any:
        end = time.monotonic() + PATIENCE_S
        while True:
            await self.ask(images)
            found = await done()
            if found:
                return found
            assert time.monotonic() < end, f"{what} did not happen"

    async def records(self, topic: str) -> list[Any]:
        reader = await LogReader.connect(self.connection)
        return [each.record for each in await reader.read(topic)]

    async def alerts(self, kind: str = "drift") -> list[Alert]:
        return [each for each in dict.fromkeys(await self.records("control.alerts")) if each.kind == kind]

    async def sampled(self) -> int:
        return sum(each.num_sampled for each in await self.records("control.statistics"))


async def test_rotated_digits_are_drift_and_upright_ones_are_not(stack: RunningStack, digits: Digits) -> None:
    images, _ = digits.read_heldout()
    async with Client(stack.settings.bootstrap) as client:
        traffic = Traffic(stack, client)

        async def counted() -> bool:
            return await traffic.sampled() >= 1_500

        await traffic.ask_until(images, counted, "counting 1,500 rows")
        assert await traffic.alerts() == await traffic.alerts("data_quality") == []

        async def raised() -> list[Alert]:
            return await traffic.alerts()

        began = time.monotonic()
        (alert,) = await traffic.ask_until(rotated(images), raised, "an alert of drift")
        print(f"alert {time.monotonic() - began:.1f} s after the first rotated digit")
        evidence = json.loads(alert.evidence)
        assert (alert.subject, alert.model, alert.version, alert.resolved) == ("digits", "digits", "v1.0.0", False)
        assert evidence["num_reference_rows"] == 540
        assert evidence["num_measures"] == 68
        assert evidence["num_drifting"] >= 6 or any(each["is_output"] for each in evidence["worst"])
        assert evidence["worst"][0]["psi"] >= evidence["threshold"] == 0.2
        assert [cause.topic for cause in alert.causes] == ["control.statistics"]

        async def resolved() -> bool:
            found = await traffic.alerts()
            return {each.alert_id for each in found if each.resolved} == {each.alert_id for each in found}

        shown = await asyncio.to_thread(stack.isos_json, "models", "drift", "digits", "--seconds", "10")
        assert shown["measures"][0]["drifts"]
        assert shown["num_sampled"] >= 100

        async def looked_at_again() -> list[Validation]:
            made = [each for each in await traffic.records("control.validations") if each.alert_id == alert.alert_id]
            return [each for each in made if each.check == "drift_confirmed"]

        (second, *_) = await traffic.ask_until(rotated(images), looked_at_again, "a second look at the drift")
        assert (second.outcome, second.version) == ("failed", "v1.0.0")
        assert second.num_samples >= 50
        assert "of 68 measures of" in second.message

        began = time.monotonic()
        await traffic.ask_until(images, resolved, "the end of the drift")
        print(f"resolved {time.monotonic() - began:.1f} s after the last rotated digit")
        found = await traffic.alerts()
        assert [each.resolved for each in found] == [False, True]
    replayed = stack.isos_json("replay", "monitor", "researcher")
    assert [each["differences"] for each in replayed] == [0, 0]


async def test_rows_that_the_cache_answers_are_counted_by_the_router(stack: RunningStack, digits: Digits) -> None:
    images, _ = digits.read_heldout()
    await asyncio.to_thread(stack.isos, "cache", "enable", "digits")
    async with Client(stack.settings.bootstrap) as client:
        traffic = Traffic(stack, client)

        async def counted() -> int:
            told = [each for each in await traffic.records("control.statistics") if each.executor == "router-0"]
            assert all(sum(each.measures[0].bins) + each.measures[0].num_missing == each.num_sampled for each in told)
            return sum(each.num_sampled for each in told)

        await traffic.ask_until(images[:20], counted, "counting rows that the cache answered")
    await asyncio.to_thread(stack.isos, "cache", "disable", "digits")


def test_a_file_that_does_not_fit_is_refused(stack: RunningStack, digits: Digits, tmp_path: Path) -> None:
    assert digits.heldout.is_file()
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    done = stack.isos("models", "reference", "digits", "--data", str(wrong), check=False)
    assert done.returncode == 2
    assert "there is no column image[0]" in done.stderr
    stack.isos("models", "reference", "digits", "--remove")
    assert stack.isos("models", "reference", "digits", check=False).returncode == 3
