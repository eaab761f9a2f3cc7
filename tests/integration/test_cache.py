"""Cached answers through a whole stack: the same input again, epochs, versions, warming, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.registration import Registrar
from schemas.model import TensorSpec
from streams.client.client import Answer, Client
from streams.connection import Connection
from tests.support import models
from tests.support.broker import unique
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

SIGNATURE = (TensorSpec("x", "FP32", (4,)),), (TensorSpec("y", "FP32", (3,)),)
PATIENCE_S = 60.0


def registered(stack: RunningStack, *seeds: int, deterministic: bool = True) -> str:
    """A new model whose versions v1.0.0, v2.0.0 .. are random networks of these seeds."""
    name = unique("cached")

    async def register() -> None:
        store = ModelStore(stack.settings.data_dir)
        async with Registrar(Connection(stack.settings.bootstrap), store, PATIENCE_S) as registrar:
            for number, seed in enumerate(seeds, start=1):
                blob = models.mlp(seed=seed)
                facts = models.version_of(blob, *SIGNATURE, name=name, version=f"v{number}.0.0")
                await registrar.register(blob, replace(facts, deterministic=deterministic))

    asyncio.run(register())
    return name


def inputs(value: float, items: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.full((items, 4), value, np.float32)}


async def until(client: Client, model: str, value: float, *, cached: bool, version: str | None = None) -> Answer:
    """The answer to an input once it comes from the cache, or once it does not: processes learn one after another."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = await client.infer(model, inputs(value), version=version)
        if answer.result.provenance.cached == cached:
            return answer
    raise AssertionError(f"no answer of {model} with cached = {cached}")


async def test_equal_inputs_get_the_earlier_answer(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, 1)
    async with Client(whole_stack.settings.bootstrap) as client:
        first = await client.infer(model, inputs(1.0))
        assert not (await client.infer(model, inputs(1.0))).result.provenance.cached  # nobody asked for it yet
        await asyncio.to_thread(whole_stack.isos, "cache", "enable", model, "--ttl", "10m")
        again = await until(client, model, 1.0, cached=True)
        assert np.array_equal(again.outputs["y"], first.outputs["y"])
        made, source = again.result.provenance, again.result
        assert (made.model_digest, made.executor) == (
            first.result.provenance.model_digest,
            first.result.provenance.executor,
        )
        assert (source.model_version, source.timing.executed_us, made.batch_id) == ("v1.0.0", 0, 0)
        assert again.result.source.offset > first.result.source.offset
        other = await client.infer(model, inputs(2.0))
        assert not other.result.provenance.cached
        several = await client.infer(model, inputs(1.0, items=2))
        assert not several.result.provenance.cached
        assert several.outputs["y"].shape == (2, 3)
    end = time.monotonic() + PATIENCE_S
    while True:  # windows are told about each second
        stats = await asyncio.to_thread(whole_stack.isos_json, "cache", "stats", model, "--since", "10m")
        if any(row["hits"] >= 1 and row["misses"] >= 2 for row in stats["models"]):
            break
        assert time.monotonic() < end, stats
    assert len(stats["models"]) == 1
    assert stats["forged"] == 0
    assert stats["redis"]["answers"] >= 1


async def test_a_flush_is_an_epoch_in_memory(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, 2)
    await asyncio.to_thread(whole_stack.isos, "cache", "enable", model)
    async with Client(whole_stack.settings.bootstrap) as client:
        await until(client, model, 1.0, cached=True)
        (policy,) = await asyncio.to_thread(whole_stack.isos_json, "cache", "flush", model)
        assert policy == {"model": model, "cached": True, "ttl_s": 3600, "epoch": 2}
        await until(client, model, 1.0, cached=False)
        await until(client, model, 1.0, cached=True)
        await asyncio.to_thread(whole_stack.isos, "cache", "disable", model)
        await until(client, model, 1.0, cached=False)
    rows = await asyncio.to_thread(whole_stack.isos_json, "cache", "list")
    (mine,) = [row for row in rows if row["model"] == model]
    assert mine == {"model": model, "cached": False, "ttl_s": 3600, "epoch": 2, "not_deterministic": None}


async def test_versions_answer_for_themselves(whole_stack: RunningStack) -> None:
    model = await asyncio.to_thread(registered, whole_stack, 3, 4)
    await asyncio.to_thread(whole_stack.isos, "cache", "enable", model)
    async with Client(whole_stack.settings.bootstrap) as client:
        first = await until(client, model, 1.0, cached=True)
        second = await client.infer(model, inputs(1.0), version="v2.0.0")
        assert not second.result.provenance.cached
        assert not np.array_equal(first.outputs["y"], second.outputs["y"])
        again = await until(client, model, 1.0, cached=True, version="v2.0.0")
        assert np.array_equal(again.outputs["y"], second.outputs["y"])


def test_warming_from_a_file_and_from_what_came_most_often(whole_stack: RunningStack, tmp_path: Path) -> None:
    model = registered(whole_stack, 5)
    path = tmp_path / "inputs.jsonl"
    path.write_text("".join(json.dumps([value] * 4) + "\n" for value in range(20)))
    refused = whole_stack.isos("cache", "warm", model, "--file", str(path), check=False)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert f"isos cache enable {model}" in refused.stderr
    whole_stack.isos("cache", "enable", model)
    end = time.monotonic() + PATIENCE_S
    while (done := whole_stack.isos_json("cache", "warm", model, "--file", str(path)))["already_cached"] < 20:
        assert (done["inputs"], done["failed"]) == (20, 0)
        assert time.monotonic() < end
    hottest = whole_stack.isos_json("cache", "warm", model, "--hottest", "5")
    assert hottest == {"model": model, "inputs": 5, "answered": 0, "already_cached": 5, "failed": 0}
    (tmp_path / "wrong.jsonl").write_text("[1, 2]\n[")
    wrong = whole_stack.isos("cache", "warm", model, "--file", str(tmp_path / "wrong.jsonl"), check=False)
    assert wrong.returncode == 2
    assert "line 2 is not JSON" in wrong.stderr
    absent = whole_stack.isos("cache", "warm", model, "--file", str(tmp_path / "absent.jsonl"), check=False)
    assert absent.returncode == 3


def test_what_is_not_cached(whole_stack: RunningStack) -> None:
    lots = registered(whole_stack, 6, deterministic=False)
    refused = whole_stack.isos("cache", "enable", lots, check=False)
    assert refused.returncode == 4
    assert "not_deterministic" in refused.stderr
    unknown = whole_stack.isos("cache", "enable", "nobody-registered-this", check=False)
    assert unknown.returncode == 3
    assert "unknown_model" in unknown.stderr
