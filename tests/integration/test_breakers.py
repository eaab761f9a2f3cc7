"""Breakers and fallbacks through a whole stack: a version that fails its rows, what serves in its stead, its return."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from executors.model_store import ModelStore, digest_of
from infra.registration import Registrar
from streams.client.client import Answer, Client
from streams.client.request import Request
from streams.connection import Connection
from tests.support import models
from tests.support.broker import unique
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

PATIENCE_S = 90.0
TOO_MUCH = 1e13
"""As many floats of memory as nobody has: the session of ``models.hungry`` fails."""


def registered(stack: RunningStack, *blobs: bytes) -> str:
    """A new model whose versions v1.0.0, v2.0.0 .. are these."""
    name = unique("broken")

    async def register() -> None:
        store = ModelStore(stack.settings.data_dir)
        async with Registrar(Connection(stack.settings.bootstrap), store, PATIENCE_S) as registrar:
            for number, blob in enumerate(blobs, start=1):
                await registrar.register(blob, models.version_of(blob, name=name, version=f"v{number}.0.0"))

    asyncio.run(register())
    return name


async def asked(client: Client, model: str, value: float, count: int, version: str | None = None) -> list[Answer]:
    """Answers to ``count`` requests at once."""
    given = {"x": np.full((1, 4), value, np.float32)}
    return await asyncio.gather(*(client.submit(Request(model, given, version)) for _ in range(count)))


def outcomes(answers: Sequence[Answer]) -> set[tuple[str, str, str]]:
    """Status, code and version of each, once."""
    results = [answer.result for answer in answers]
    return {(each.status, "" if each.error is None else each.error.code, each.model_version) for each in results}


def moves(stack: RunningStack, model: str, version: str) -> list[dict[str, Any]]:
    """What memory says of a breaker, oldest first."""
    done = stack.isos("memory", "history", f"breaker/{model}/{version}", "--output", "json", check=False)
    if done.returncode == 3:
        return []
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def moved(stack: RunningStack, model: str, version: str, count: int) -> list[dict[str, Any]]:
    """The moves of a breaker, once there are so many."""
    end = time.monotonic() + PATIENCE_S
    while len(found := await asyncio.to_thread(moves, stack, model, version)) < count:
        assert time.monotonic() < end, f"the breaker of {model} {version} moved {len(found)} times"
    return found


async def until(
    client: Client, model: str, value: float, wanted: tuple[str, str, str], *, every_s: float = 0.2
) -> None:
    """Ask until all of twenty requests end as wanted."""
    end = time.monotonic() + PATIENCE_S
    while (seen := outcomes(await asked(client, model, value, 20))) != {wanted}:
        assert time.monotonic() < end, f"{model} ends as {seen}, not as {wanted}"
        await asyncio.sleep(every_s)


async def test_a_version_that_fails_is_replaced_by_its_fallback_until_it_is_well(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, models.identity(), models.hungry())
    isos = whole_stack.isos_json
    set_ = await asyncio.to_thread(isos, "serving", "set", model, "--fallback", "v1.0.0")
    assert (set_["fallbacks"], set_["max_attempts"], set_["breaker"]) == (["v1.0.0"], 2, True)
    await asyncio.to_thread(isos, "models", "activate", model, "v2.0.0")
    async with Client(whole_stack.settings.bootstrap) as client:
        await until(client, model, 1.0, ("OK", "", "v2.0.0"))
        first = await asked(client, model, TOO_MUCH, 90)
        assert outcomes(first) == {("OK", "", "v1.0.0")}  # each failed on v2 and was tried again
        assert all(np.array_equal(each.outputs["y"], np.full((1, 4), TOO_MUCH, np.float32)) for each in first)
        await moved(whole_stack, model, "v2.0.0", 1)
        await until(client, model, 1.0, ("OK", "", "v1.0.0"))  # v2 gets nothing, not even what it could do
        shown = await asyncio.to_thread(isos, "serving", "show", model)
        (breaker,) = shown["open_breakers"]
        assert (breaker["version"], breaker["state"]) == ("v2.0.0", "open")
        pinned = await asked(client, model, 1.0, 3, "v2.0.0")
        assert outcomes(pinned) == {("ERROR", "circuit_open", "v2.0.0")}
        assert all(0 < each.result.error.retry_after_ms <= 15_000 for each in pinned if each.result.error)
        await until(client, model, 1.0, ("OK", "", "v2.0.0"))  # half open, probes pass, closed
    opened, half, closed = await moved(whole_stack, model, "v2.0.0", 3)
    assert [each["kind"] for each in (opened, half, closed)] == ["BreakerOpened", "BreakerHalfOpened", "BreakerClosed"]
    assert {each["agent"] for each in (opened, half, closed)} == {"monitor"}
    assert "rows of " + model + " v2.0.0 failed" in opened["reason"]
    assert closed["reason"].endswith(f"rows of {model} v2.0.0 passed and none failed")
    incident = f"incident/breaker_open/{model}/v2.0.0/{opened['body']['since_us']}"
    history = await asyncio.to_thread(isos, "memory", "history", incident)
    assert [each["kind"] for each in history] == ["IncidentRaised", "IncidentResolved"]


async def test_without_a_fallback_rows_end_at_once_and_a_bad_probe_opens_it_again(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, models.hungry())
    async with Client(whole_stack.settings.bootstrap) as client:
        await until(client, model, 1.0, ("OK", "", "v1.0.0"))
        failed = await asked(client, model, TOO_MUCH, 60)
        soon = {("ERROR", "circuit_open", ""), ("ERROR", "execution_failed", "v1.0.0")}  # it may open meanwhile
        assert ("ERROR", "execution_failed", "v1.0.0") in outcomes(failed) <= soon
        await moved(whole_stack, model, "v1.0.0", 1)
        await until(client, model, 1.0, ("ERROR", "circuit_open", ""))
        began = time.monotonic()
        refused = await asked(client, model, TOO_MUCH, 20)
        assert outcomes(refused) == {("ERROR", "circuit_open", "")}
        assert time.monotonic() - began < 5  # nobody ran anything
        end = time.monotonic() + PATIENCE_S
        while len(found := await asyncio.to_thread(moves, whole_stack, model, "v1.0.0")) < 3:
            assert time.monotonic() < end
            await asked(client, model, TOO_MUCH, 40)
    assert [each["kind"] for each in found[:3]] == ["BreakerOpened", "BreakerHalfOpened", "BreakerOpened"]
    assert [found[at]["body"]["open_us"] for at in (0, 2)] == [15_000_000, 30_000_000]
    whole_stack.isos("serving", "set", model, "--no-breaker")
    async with Client(whole_stack.settings.bootstrap) as client:
        await until(client, model, 1.0, ("OK", "", "v1.0.0"))
    assert (await asyncio.to_thread(moves, whole_stack, model, "v1.0.0"))[-1]["kind"] == "BreakerClosed"


async def test_outputs_that_fail_the_gate_open_a_breaker_too(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, models.identity(), models.nan())
    await asyncio.to_thread(whole_stack.isos, "serving", "set", model, "--fallback", "v1.0.0")
    await asyncio.to_thread(whole_stack.isos, "models", "activate", model, "v2.0.0")
    async with Client(whole_stack.settings.bootstrap) as client:
        await until(client, model, 1.0, ("OK", "", "v2.0.0"))
        soon = {("OK", "", "v1.0.0"), ("ERROR", "output_invalid", "v2.0.0")}
        assert ("ERROR", "output_invalid", "v2.0.0") in outcomes(await asked(client, model, -1.0, 60)) <= soon
        await until(client, model, -1.0, ("OK", "", "v1.0.0"))
    assert (await asyncio.to_thread(moves, whole_stack, model, "v2.0.0"))[0]["kind"] == "BreakerOpened"


async def test_commands_refuse_in_sentences(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, models.identity())
    for arguments, code, said in (
        (("serving", "show", "nobody"), 3, "No model nobody is registered"),
        (("serving", "set", model, "--fallback", "v9.0.0"), 3, f"{model} has no version v9.0.0"),
        (("models", "activate", model, "v9.0.0"), 3, f"{model} has no version v9.0.0"),
    ):
        done = await asyncio.to_thread(whole_stack.isos, *arguments, check=False)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False)


async def test_a_version_that_cannot_be_loaded_is_replaced_also_when_the_control_plane_dies(
    whole_stack: RunningStack,
) -> None:
    second = models.mlp((4, 8, 4), seed=77)
    model = await asyncio.to_thread(registered, whole_stack, models.identity(), second)
    await asyncio.to_thread(whole_stack.isos, "serving", "set", model, "--fallback", "v1.0.0")
    blob = ModelStore(whole_stack.settings.data_dir).path(digest_of(second))
    away = blob.rename(blob.with_name("away"))
    await asyncio.to_thread(whole_stack.isos, "models", "activate", model, "v2.0.0")
    async with Client(whole_stack.settings.bootstrap) as client:
        await until(client, model, 1.0, ("OK", "", "v1.0.0"))
        assert len(await moved(whole_stack, model, "v2.0.0", 1)) == 1
        away.rename(blob)
        for name in ("control", "orchestrator"):
            await asyncio.to_thread(whole_stack.wait_restarted, name, whole_stack.kill(name))
            assert "took the predecessor out of isos-" in whole_stack.log(name)  # no session time-out was waited for
        await until(client, model, 1.0, ("OK", "", "v2.0.0"))
    kinds = [each["kind"] for each in await moved(whole_stack, model, "v2.0.0", 3)]
    assert (kinds[0], kinds[1], kinds[-1]) == ("BreakerOpened", "BreakerHalfOpened", "BreakerClosed")
