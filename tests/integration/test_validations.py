"""Checks of model versions through a whole stack: by a golden set, after a roll-back, of a stored file's bytes.

Everything is asked through the command line or comes about by itself; the model answers each row with its own number,
so that what is right is known.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest

from executors.model_store import ModelStore, digest_of
from infra.log_reader import LogReader
from infra.memory_command import command_of
from infra.registration import Registrar
from infra.serving_control import ServingControl
from schemas.known_good import GoodVersion, KnownGood
from schemas.model import ModelVersion, TensorSpec
from schemas.review import Validation
from streams.canonical import to_json
from streams.check_id import TENANT
from streams.client.client import Client, RequestRejectedError
from streams.connection import Connection
from streams.memory_view import active_version
from tests.support import models
from tests.support.broker import unique
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

PATIENCE_S = 60.0
GOOD, BAD = "v1.0.0", "v2.0.0"


def shifting(by: float) -> bytes:
    """FP32: y = x + by, both [n, 4]; the place of the largest number is x's own where by moves none past another."""
    shift = nh.from_array(np.array([0, 0, 0, by], np.float32), "shift")
    nodes = [oh.make_node("Add", ["x", "shift"], ["y"])]
    return models.build(nodes, [models.value("x", "n", 4)], [models.value("y", "n", 4)], [shift])


async def registered(stack: RunningStack, blobs: dict[str, bytes]) -> str:
    """A new model with these versions; the first one is active."""
    name = unique("checked")
    store = ModelStore(stack.settings.data_dir)
    async with Registrar(Connection(stack.settings.bootstrap), store, PATIENCE_S) as registrar:
        for version, blob in blobs.items():
            specs = (TensorSpec("x", "FP32", (4,)),), (TensorSpec("y", "FP32", (4,)),)
            facts: ModelVersion = models.version_of(blob, *specs, name=name, version=version)
            await registrar.register(blob, facts)
    return name


def golden_file(folder: Path, num_rows: int = 120) -> Path:
    """Rows whose largest number is at the place that the label says."""
    labels = np.arange(num_rows) % 4
    np.savez(folder / "golden.npz", x=np.eye(4, dtype=np.float32)[labels], labels=labels)
    return folder / "golden.npz"


async def validations(stack: RunningStack, model: str, count: int, kind: str) -> dict[str, Validation]:
    """The outcomes of a model's checks whose id begins so, by check, once there are so many."""
    end = time.monotonic() + PATIENCE_S
    while True:
        reader = await LogReader.connect(Connection(stack.settings.bootstrap))
        read = [each.record for each in await reader.read("control.validations")]
        found = {each.check: each for each in read if each.model == model and each.validation_id.startswith(kind)}
        if len(found) >= count:
            return found
        assert time.monotonic() < end, f"{model} has only {found}"
        await asyncio.sleep(0.2)


async def no_traffic(stack: RunningStack, model: str, num_rows: int) -> None:
    """Checks were answered, and nobody counts them; who passes requests off as checks is refused."""
    reader = await LogReader.connect(Connection(stack.settings.bootstrap))
    results = [each.record for each in await reader.read("inference.results")]
    mine = [each for each in results if each.model == model and each.tenant == TENANT]
    assert {each.status for each in mine} == {"OK"}
    assert len(mine) > num_rows // 16
    windows = [each.record for each in await reader.read("control.telemetry")]
    assert model not in {part.model for window in windows for part in window.models}
    loads = [each.record for each in await reader.read("control.load") if each.record.model == model]
    assert max(each.rows_per_s for each in loads) <= 1.5  # one row a window, to wake who sleeps
    async with Client(stack.settings.bootstrap, tenant=TENANT) as client:
        with pytest.raises(RequestRejectedError) as refused:
            await client.infer(model, {"x": np.ones((1, 4), np.float32)})
    assert refused.value.code == "reserved_tenant"


async def mark_good(stack: RunningStack, model: str, version: str) -> None:
    """Speak as the Monitor, which would need a minute of traffic to say so."""
    async with ServingControl(Connection(stack.settings.bootstrap), PATIENCE_S) as control:
        body = to_json(KnownGood(model, (GoodVersion(version, "", 1, 1, 500),)))
        command = command_of("MarkVersionGood", f"good/{model}", body, "tested", control.view, time.time_ns() // 1000)
        await control.propose(replace(command, agent="monitor"), lambda view: f"good/{model}" in view.entries, "")


def run(stack: RunningStack, *arguments: str) -> tuple[int, Any]:
    """Exit code and rows of ``isos validations run``."""
    done = stack.isos("validations", "run", *arguments, "--output", "json", check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


async def test_a_golden_set_tells_a_good_version_from_a_bad_one(whole_stack: RunningStack, tmp_path: Path) -> None:
    isos = whole_stack.isos
    model = await registered(whole_stack, {GOOD: shifting(0), BAD: shifting(5)})
    noted = await asyncio.to_thread(isos, "models", "golden", model, "--data", str(golden_file(tmp_path)))
    assert "120" in noted.stdout

    code, rows = await asyncio.to_thread(run, whole_stack, model)
    outcomes = {row["check"]: row["outcome"] for row in rows}
    assert (code, outcomes) == (0, dict.fromkeys(("golden_set", "serving", "latency", "integrity"), "passed")), rows
    (golden,) = [row for row in rows if row["check"] == "golden_set"]
    assert (golden["samples"], golden["version"], golden["evidence"]["accuracy_ppm"]) == (120, GOOD, 1_000_000)
    assert 960_000 < golden["evidence"]["low_ppm"] < golden["evidence"]["high_ppm"] == 1_000_000

    code, rows = await asyncio.to_thread(run, whole_stack, model, "--version", BAD, "--check", "golden_set")
    assert (code, rows[0]["outcome"], rows[0]["evidence"]["num_right"]) == (7, "failed", 30)
    assert rows[0]["message"].startswith("25 % of 120 rows are right (with 95 %: 18.")
    shown = await asyncio.to_thread(whole_stack.isos_json, "validations", "show", rows[0]["validation_id"])
    assert shown == rows[0]

    await no_traffic(whole_stack, model, golden["samples"])
    done = await asyncio.to_thread(isos, "models", "activate", model, BAD, "--rehearse", check=False)
    assert (done.returncode, done.stdout, "golden_set failed: 25 % of 120 rows" in done.stderr) == (7, "", True)

    # That the bad one is activated is noticed; it is rolled back, which is verified, and the incident is over.
    await mark_good(whole_stack, model, GOOD)
    await asyncio.to_thread(isos, "models", "activate", model, BAD, "--no-wait")
    noticed = await validations(whole_stack, model, 2, "activation/")
    assert {check: each.outcome for check, each in noticed.items()} == {"golden_set": "failed", "integrity": "passed"}
    verified = await validations(whole_stack, model, 4, "rollback/")
    assert {check: each.outcome for check, each in verified.items()} == dict.fromkeys(outcomes, "passed"), verified
    assert {each.version for each in verified.values()} == {GOOD}
    (incident,) = {each.alert_id for each in verified.values()}
    async with ServingControl(Connection(whole_stack.settings.bootstrap), PATIENCE_S) as control:
        view = await control.wait_for(lambda view: f"incident/{incident}" not in view.entries, "The incident's end")
    assert active_version(view, model) == GOOD
    assert json.loads(view.entries[f"rollback/{model}"].body)["state"] == "verified"


async def test_a_flipped_byte_in_the_store_is_found(whole_stack: RunningStack) -> None:
    model = await registered(whole_stack, {GOOD: shifting(1)})
    path = ModelStore(whole_stack.settings.data_dir).path(digest_of(shifting(1)))
    blob = path.read_bytes()
    code, rows = await asyncio.to_thread(run, whole_stack, model, "--check", "integrity")
    assert (code, rows[0]["outcome"]) == (0, "passed"), rows
    path.chmod(0o600)
    path.write_bytes(bytes([blob[0], blob[1] ^ 1]) + blob[2:])
    code, rows = await asyncio.to_thread(run, whole_stack, model, "--check", "integrity")
    assert (code, rows[0]["outcome"]) == (7, "failed")
    assert "holds other bytes" in rows[0]["message"]
    path.write_bytes(blob)


async def requested(stack: RunningStack, model: str) -> None:
    """Wait until a check of the model is asked for."""
    end = time.monotonic() + PATIENCE_S
    reader = await LogReader.connect(Connection(stack.settings.bootstrap))
    while model not in [each.record.model for each in await reader.read("control.validation-requests")]:
        assert time.monotonic() < end, f"nobody asks for a check of {model}"
        await asyncio.sleep(0.1)


async def test_serving_without_a_golden_set_is_judged_by_traffic_also_after_a_kill(whole_stack: RunningStack) -> None:
    """The check begins, its prober is killed, and the next one goes on with it."""
    model = await registered(whole_stack, {GOOD: shifting(2)})
    asking = asyncio.ensure_future(
        asyncio.to_thread(run, whole_stack, model, "--check", "serving", "--timeout-s", "60")
    )
    await requested(whole_stack, model)
    await asyncio.to_thread(whole_stack.wait_restarted, "control", whole_stack.kill("control"))
    given = {"x": np.ones((1, 4), np.float32)}
    async with Client(whole_stack.settings.bootstrap) as client:
        while not asking.done():
            await client.infer(model, given)
            await asyncio.sleep(0.05)
    code, rows = await asking
    assert (code, rows[0]["outcome"], rows[0]["evidence"]["source"]) == (0, "passed", "traffic"), rows
    code, rows = await asyncio.to_thread(run, whole_stack, model, "--check", "golden_set")
    assert (code, rows[0]["outcome"]) == (1, "not_run")
    assert "has no golden set" in rows[0]["message"]


async def test_what_was_decided_is_decided_again(whole_stack: RunningStack) -> None:
    (row,) = await asyncio.to_thread(whole_stack.isos_json, "replay", "validations")
    assert (row["agent"], row["difference"]) == ("validations", None)
    assert row["entries"] > 0
