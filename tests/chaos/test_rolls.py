"""Rolling restarts and releases under 1,000 requests/s: every request ends OK, exactly once."""

import asyncio
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from infra.bench.models import bench_model
from streams.connection import Connection
from streams.growth import ORDER
from streams.provision import topic_partitions
from streams.topics import full_name
from tests.support.faults import FAST, RATE, chaos_seed, ledger, traffic, two_of_each
from tests.support.release import SourceTree
from tests.support.stack import wait_until
from tests.support.wire import schema_ids_on

pytestmark = pytest.mark.timeout(600)

RESTART_S = 400.0


@pytest.fixture
def stack(two):
    return two


def moments(seconds):
    """Let traffic flow for a while; the length of a phase, not a wait for something."""
    threading.Event().wait(seconds)


def longest_gap_s(record):
    """Longest time between two answers, seconds."""
    answered = np.sort((record.sent.scheduled_us + record.matched.latency_us)[record.matched.status == 1])
    return float(np.diff(answered).max() / 1e6)


def test_rolling_restart_of_every_process(stack, tmp_path):
    before = stack.processes()
    with traffic(stack, tmp_path, chaos_seed()) as run:
        done = stack.isos("restart", "--rolling", "--output", "json", seconds=RESTART_S)
        run.probe()
        print(f"longest time without an answer: {longest_gap_s(run.check()):.2f} s")
    print(done.stderr)
    restarted = {each["process"]: each for each in json.loads(done.stdout)}
    after = stack.processes()
    assert set(restarted) == set(before) - {"broker", "redis"}
    for name, row in after.items():
        assert (row["pid"] != before[name]["pid"]) == (name in restarted), name
        assert row["phase"] == "ready"
    assert not [name for name, each in restarted.items() if each["killed"]]


def num_partitions(stack):
    return asyncio.run(topic_partitions(Connection(stack.settings.bootstrap), ORDER))


def cut_off_before_requests(stack, count):
    """Begin to grow, and kill the command when everything but the requests topic has grown."""
    argv = [sys.executable, "-m", "infra.cli", "topics", "grow", "--partitions", str(count)]
    with subprocess.Popen(argv, env=stack.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        wait_until(lambda: num_partitions(stack)["inference.admitted"] == count, 60, "growth of inference.admitted")
        command.kill()
    assert num_partitions(stack) == {**dict.fromkeys(ORDER, count), "inference.requests": stack.settings.partitions}


def test_partitions_are_added_under_load(stack, tmp_path):
    count, half = stack.settings.partitions + 2, RATE / 2
    with traffic(stack, tmp_path, chaos_seed(), half, half / 50) as before:
        cut_off_before_requests(stack, count)
        before.probe()
        grown = json.loads(stack.isos("topics", "grow", "--partitions", str(count), "--output", "json").stdout)
        assert grown == [{"topic": "inference.requests", "before": stack.settings.partitions, "after": count}]
        with traffic(stack, tmp_path, chaos_seed(), half, half / 50) as after:
            moments(5.0)
            records = [after.finish(), before.finish()]
    for record in records:
        counts = record.summary
        print({name: counts[name] for name in ("sent", "ok", "missing", "duplicated", "reaped", "max_ms")})
        print(f"longest time without an answer: {longest_gap_s(record):.2f} s")
        assert counts["ok"] == counts["sent"] == counts["acknowledged"], counts
        assert (counts["unacknowledged"], counts["missing"], counts["duplicated"], counts["reaped"]) == (0, 0, 0, 0)
    assert set(records[0].sent.partition.tolist()) == set(range(count))
    books = ledger(stack)
    assert books["exit_status"] == 0, books
    assert (books["missing"], books["duplicated"], books["reaped"], books["in_flight"]) == (0, 0, 0, 0)
    assert [each["partition"] for each in books["partitions"] if each["ok"] > 0] == list(range(count))
    refused = stack.isos("topics", "grow", "--partitions", "1", check=False)
    assert refused.returncode == 4
    assert "take some away" in refused.stderr


WRITTEN = (
    *("inference.requests", "inference.admitted", "inference.routed", "inference.executed", "inference.results"),
    *("inference.ledger-checkpoints", "control.heartbeats", "control.telemetry", "control.plans", "control.journal"),
    *("memory.commands", "memory.events", "memory.state"),
)
"""The topics whose records are written while the test runs."""


def ask(stack):
    """Send a request with a client of the release that is installed."""
    stack.isos("infer", FAST[0], "--json", json.dumps([[0.5] * 256]), "--timeout-ms", "60000")


def register(stack, folder, name):
    """Register a model with the release that is installed, and wait for its plan."""
    blob, facts = bench_model(name, 3)
    model, manifest = folder / f"{name}.onnx", folder / f"{name}.json"
    model.write_bytes(blob)
    ends = {"inputs": facts.inputs, "outputs": facts.outputs}
    tensors = {
        end: [{"name": t.name, "datatype": t.datatype, "shape": [-1, *t.item_shape]} for t in specs]
        for end, specs in ends.items()
    }
    manifest.write_text(json.dumps({**tensors, "max_batch_size": 128}))
    stack.isos(
        "models", "register", str(model), "--name", name, "--version", facts.version, "--manifest", str(manifest)
    )


def roll(stack):
    stack.isos("topics", "provision")
    ask(stack)
    done = json.loads(stack.isos("restart", "--rolling", "--output", "json", seconds=RESTART_S).stdout)
    assert not [each["process"] for each in done if each["killed"]]
    ask(stack)


def test_a_release_with_another_version_of_every_schema_and_back(tmp_path):
    release = SourceTree(tmp_path / "source")
    with (
        two_of_each(tmp_path, source=release.folder, edges=1, routers=1, executors=1) as stack,
        traffic(stack, tmp_path, chaos_seed()) as run,
    ):
        release.upgrade()
        roll(stack)
        register(stack, tmp_path, "bench-after-upgrade")
        written = {name: schema_ids_on(stack.settings.bootstrap, full_name(name)) for name in WRITTEN}
        release.downgrade()
        roll(stack)
        register(stack, tmp_path, "bench-after-downgrade")
        run.num_probes += 4
        run.probe()
        print(f"longest time without an answer: {longest_gap_s(run.check()):.2f} s")
    print({name: sorted(ids) for name, ids in written.items()})
    assert {name: len(ids) for name, ids in written.items()} == dict.fromkeys(WRITTEN, 2)
