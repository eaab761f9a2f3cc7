"""Ways in to a whole stack: our client, the command line, and a process that has never seen our code."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streams.client.client import Client, NoResultError
from tests.support.broker import unique
from tests.support.served import BYTES_MODEL, MODEL

FOREIGN = Path(__file__).parents[1] / "support" / "foreign_client.py"
pytestmark = pytest.mark.timeout(180)


async def test_our_client_many_at_once(whole_stack):
    rows = np.random.default_rng(0).standard_normal((100, 256)).astype(np.float32)
    async with Client(whole_stack.settings.bootstrap) as isos:
        whole = (await isos.infer(MODEL, {"x": rows})).outputs["y"]
        singly = await asyncio.gather(*(isos.infer(MODEL, {"x": row[np.newaxis]}) for row in rows))
    assert whole.shape == (100, 10)
    assert np.concatenate([answer.outputs["y"] for answer in singly]) == pytest.approx(whole, abs=1e-5)
    places = {(answer.result.source.partition, answer.result.source.offset) for answer in singly}
    assert len(places) == 100


async def test_a_result_says_what_made_it(whole_stack):
    async with Client(whole_stack.settings.bootstrap) as isos:
        answer = await isos.infer(MODEL, {"x": np.zeros((3, 256), np.float32)}, request_id="mine", priority=0)
    result = answer.result
    assert (result.request_id, result.model, result.model_version, result.status) == ("mine", MODEL, "v1.0.0", "OK")
    assert len(result.provenance.model_digest) == 64
    assert result.provenance.execution_provider == "CPUExecutionProvider"
    assert result.provenance.memory_sequence > 0
    timing = result.timing
    instants = (result.received_us, timing.admitted_us, timing.routed_us, timing.executed_us, timing.completed_us)
    assert list(instants) == sorted(instants)
    assert instants[-1] <= answer.read_us


async def test_our_client_gives_up_in_time(whole_stack):
    async with Client(whole_stack.settings.bootstrap) as isos:
        with pytest.raises(NoResultError):
            await isos.exchange(b"garbage", wait_s=0.0)


def test_command_line(whole_stack):
    document = whole_stack.isos_json("infer", BYTES_MODEL, "--json", "[1, 2, 3, 4]")
    assert (document["status"], document["outputs"]) == ("OK", {"y": [[1.0, 2.0, 3.0, 4.0]]})
    refused = whole_stack.isos("infer", "nobody-registered-this", "--json", "[1]", check=False)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "unknown_model" in refused.stderr


def test_a_client_that_has_never_seen_our_code(whole_stack, tmp_path):
    script = shutil.copy(FOREIGN, tmp_path / "client.py")
    settings, request_id = whole_stack.settings, unique("foreign")
    done = subprocess.run(
        [sys.executable, "-I", script, settings.bootstrap, settings.registry_address, request_id],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    place, result = map(json.loads, done.stdout.splitlines())
    assert (result["request_id"], result["status"], result["error"]) == (request_id, "OK", None)
    assert (result["source"]["partition"], result["source"]["offset"]) == (place["partition"], place["offset"])
    (output,) = result["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [1, 4])
    assert bytes.fromhex(output["data"]) == np.array([1, 2, 3, 4], "<f4").tobytes()
