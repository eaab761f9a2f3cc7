"""A shadow on a real stack: its copies are compared with the rows that were answered, and nobody gets them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.shadow import COHORT, is_chosen
from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.registration import Registrar
from streams.client.client import Answer, Client
from streams.connection import Connection
from tests.support.broker import unique
from tests.support.faults import ledger
from tests.support.stack import RunningStack, wait_until

NAME = "shadowed-bench"
SERVING, SHADOWING = "v1.0.0", "v1.1.0"
ROWS = 300
PERCENT = 50
pytestmark = pytest.mark.timeout(180)


async def register(stack: RunningStack) -> None:
    """Two versions with other weights, of which the first serves."""
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        for version, seed in ((SERVING, 60), (SHADOWING, 61)):
            blob, facts = bench_model(NAME, seed)
            await registrar.register(blob, replace(facts, version=version))


async def asked(stack: RunningStack, ids: list[str], rows: Any, version: str | None = None) -> list[Answer]:
    async with Client(stack.settings.bootstrap) as client:
        return await asyncio.gather(
            *[
                client.infer(NAME, {"x": row[np.newaxis]}, request_id=request_id, version=version, timeout_ms=60_000)
                for request_id, row in zip(ids, rows, strict=True)
            ]
        )


def places_of(answers: list[Answer]) -> list[int]:
    return [int(answer.outputs["y"].argmax()) for answer in answers]


def test_a_shadow_is_compared_and_answers_nobody(whole_stack: RunningStack) -> None:
    asyncio.run(register(whole_stack))
    refused = whole_stack.isos("models", "shadow", NAME, SERVING, check=False)
    assert (refused.returncode, "invalid_shadow" in refused.stderr) == (4, True)
    whole_stack.isos("models", "shadow", NAME, SHADOWING, "--percent", str(PERCENT))

    rows = np.random.default_rng(7).standard_normal((ROWS, 256)).astype(np.float32)
    ids = [f"{unique('shadow')}-{number}" for number in range(ROWS)]
    chosen = [number for number, each in enumerate(ids) if is_chosen(NAME, each.encode(), PERCENT)]
    answers = asyncio.run(asked(whole_stack, ids, rows))
    results = [answer.result for answer in answers]
    assert {(each.status, each.model_version) for each in results} == {("OK", SERVING)}
    assert COHORT not in {each.provenance.cohort for each in results}

    def figures() -> dict[str, Any]:
        document = whole_stack.isos_json("models", "shadow", NAME)
        found = [each for each in document["versions"] if each["version"] == SHADOWING]
        return found[0] if found else {"compared": 0, "rows": 0, "unheard": 0}

    wait_until(lambda: figures()["compared"] + figures()["unheard"] >= len(chosen), 30, "all copies to be compared")
    seen = figures()
    assert (seen["rows"], seen["ok"], seen["unheard"], seen["primary_failed"]) == (len(chosen), len(chosen), 0, 0)
    mine = places_of([answers[number] for number in chosen])
    pinned = asyncio.run(
        asked(whole_stack, [f"{ids[number]}-again" for number in chosen], rows[chosen], version=SHADOWING)
    )
    agreeing = sum(one == other for one, other in zip(mine, places_of(pinned), strict=True))
    assert 0 < agreeing < len(chosen)
    assert seen["equal"] + seen["agrees"] == agreeing
    assert seen["p50_ms"] > 0 < seen["primary_p50_ms"]

    whole_stack.isos("models", "shadow", NAME, "--off")
    asyncio.run(asked(whole_stack, [f"{each}-off" for each in ids[:50]], rows[:50]))
    document = whole_stack.isos_json("models", "shadow", NAME)
    assert (document["shadow"], document["percent"], document["planned"]) == (None, 0, False)
    assert figures()["rows"] == len(chosen)
    books = ledger(whole_stack)
    assert books["exit_status"] == 0, books
