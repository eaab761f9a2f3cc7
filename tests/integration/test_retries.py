"""Rows whose version fails in passing, through a whole stack: tried again elsewhere, ended once, within a budget."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.registration import Registrar
from schemas.frame import InferenceFrame
from schemas.model import ModelVersion
from streams.client.client import Answer, Client
from streams.client.request import Request
from streams.columns import PENDING, Columns
from streams.connection import Connection
from streams.retry_budget import FULL, SHARE
from tests.support import models
from tests.support.broker import unique
from tests.support.frame_log import frames_of
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(180)

TOO_MUCH = 1e13
"""As many floats of memory as nobody has: the session of ``models.hungry`` fails, and might not another time."""
FORWARD = 120


async def registered(stack: RunningStack, *blobs: bytes) -> str:
    """A new model whose versions v1.0.0, v2.0.0 .. are these; no breaker comes in between."""
    name = unique("hungry")
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        for number, blob in enumerate(blobs, start=1):
            facts: ModelVersion = models.version_of(blob, name=name, version=f"v{number}.0.0", max_batch_size=16)
            await registrar.register(blob, facts)
    await asyncio.to_thread(stack.isos, "serving", "set", name, "--no-breaker")
    return name


async def asked(
    client: Client, model: str, values: Sequence[float], *, version: str | None = None, timeout_ms: int = 30_000
) -> list[Answer]:
    """Answers to a request per value, all at once."""
    given = [{"x": np.full((1, 4), value, np.float32)} for value in values]
    requests = [Request(model, each, version, timeout_ms=timeout_ms) for each in given]
    return await asyncio.gather(*(client.submit(each) for each in requests))


def codes(answers: Sequence[Answer]) -> Counter[str]:
    """How often each code, or OK, came back."""
    return Counter("OK" if each.result.error is None else each.result.error.code for each in answers)


async def tries(stack: RunningStack, topic: str, model: str) -> Counter[tuple[int, str]]:
    """Rows of a model on a topic by attempt and version."""
    found: Counter[tuple[int, str]] = Counter()
    for frame in await frames_of(Connection(stack.settings.bootstrap), topic):
        for segment in frame.segments:
            if segment.model == model:
                found[frame.attempt, segment.version] += segment.num_rows
    return found


async def test_a_row_that_fails_is_tried_twice_over_the_path_and_ends_with_its_error(whole_stack: RunningStack) -> None:
    model = await registered(whole_stack, models.hungry())
    async with Client(whole_stack.settings.bootstrap) as client:
        assert codes(await asked(client, model, [1.0] * 5)) == {"OK": 5}
        bad, good = await asyncio.gather(asked(client, model, [TOO_MUCH] * 12), asked(client, model, range(1, 60)))
        assert (codes(bad), codes(good)) == ({"execution_failed": 12}, {"OK": 59})
        pinned = await asked(client, model, [TOO_MUCH] * 3, version="v1.0.0")
        assert codes(pinned) == {"execution_failed": 3}
        hurried = await asked(client, model, [TOO_MUCH] * 3, timeout_ms=4)
        assert set(codes(hurried)) <= {"execution_failed", "deadline_exceeded"}
    again = await tries(whole_stack, "inference.retries", model)
    assert again == {(1, "v1.0.0"): 15}
    assert (await tries(whole_stack, "inference.routed", model))[1, "v1.0.0"] == 15
    left: list[InferenceFrame] = [
        frame
        for frame in await frames_of(Connection(whole_stack.settings.bootstrap), "inference.retries")
        if any(segment.model == model for segment in frame.segments)
    ]
    for frame in left:
        assert set(frame.statuses) == {PENDING}
        assert {error.code for error in frame.errors} == {"execution_failed"}
        assert frame.not_before_us < int(Columns.of(frame).deadlines_us.min())
    assert {segment.cohort for frame in left for segment in frame.segments} == {"", "pinned"}


async def test_a_fallback_answers_what_the_active_version_failed_on(whole_stack: RunningStack) -> None:
    model = await registered(whole_stack, models.identity(), models.hungry())
    await asyncio.to_thread(whole_stack.isos, "serving", "set", model, "--fallback", "v1.0.0", "--no-breaker")
    await asyncio.to_thread(whole_stack.isos, "models", "activate", model, "v2.0.0")
    async with Client(whole_stack.settings.bootstrap) as client:
        async with asyncio.timeout(60):
            while {each.result.model_version for each in await asked(client, model, [1.0])} != {"v2.0.0"}:
                await asyncio.sleep(0.05)
        answers = await asked(client, model, [TOO_MUCH] * 20)
        assert codes(answers) == {"OK": 20}
        assert {each.result.model_version for each in answers} == {"v1.0.0"}
        assert all(each.outputs["y"].tolist() == [[np.float32(TOO_MUCH)] * 4] for each in answers)
        pinned = await asked(client, model, [TOO_MUCH] * 2, version="v2.0.0")
        assert codes(pinned) == {"execution_failed": 2}


async def test_retries_stay_within_their_budget(whole_stack: RunningStack) -> None:
    """Of many rows that fail, no more go to a second try than a full bucket per partition and a tenth of all."""
    model = await registered(whole_stack, models.hungry())
    async with Client(whole_stack.settings.bootstrap) as client:
        assert codes(await asked(client, model, [TOO_MUCH] * FORWARD * 5)) == {"execution_failed": FORWARD * 5}
    again = await tries(whole_stack, "inference.routed", model)
    most = whole_stack.settings.partitions * FULL + SHARE * FORWARD * 5
    assert 0 < sum(rows for (attempt, _), rows in again.items() if attempt) <= most
    assert sum(rows for (attempt, _), rows in again.items() if not attempt) == FORWARD * 5
