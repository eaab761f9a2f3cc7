"""Rolling restarts under 1,000 requests/s: every request ends OK, exactly once."""

import json

import numpy as np
import pytest

from tests.support.faults import chaos_seed, ledger, traffic, two_of_each

pytestmark = pytest.mark.timeout(600)

RESTART_S = 400.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with two_of_each(tmp_path_factory.mktemp("rolls")) as running:
        yield running


def longest_gap_s(record):
    """Longest time between two answers, seconds."""
    answered = np.sort((record.sent.scheduled_us + record.matched.latency_us)[record.matched.status == 1])
    return float(np.diff(answered).max() / 1e6)


def check(run, record, stack):
    counts = record.summary
    print({name: counts[name] for name in ("sent", "ok", "missing", "duplicated", "reaped", "max_ms")})
    print(f"longest time without an answer: {longest_gap_s(record):.2f} s")
    assert counts["unacknowledged"] == 0
    assert counts["ok"] == counts["sent"] == counts["acknowledged"], counts
    assert (counts["missing"], counts["duplicated"], counts["reaped"], counts["foreign"]) == (0, 0, 0, run.num_probes)
    books = ledger(stack)
    assert books["exit_status"] == 0, books
    assert (books["missing"], books["duplicated"], books["reaped"], books["in_flight"]) == (0, 0, 0, 0)
    assert books["received"] == books["ok"]


def test_rolling_restart_of_every_process(stack, tmp_path):
    before = stack.processes()
    with traffic(stack, tmp_path, chaos_seed()) as run:
        done = stack.isos("restart", "--rolling", "--output", "json", seconds=RESTART_S)
        run.probe()
        check(run, run.finish(), stack)
    print(done.stderr)
    restarted = {each["process"]: each for each in json.loads(done.stdout)}
    after = stack.processes()
    assert set(restarted) == set(before) - {"broker", "redis"}
    for name, row in after.items():
        assert (row["pid"] != before[name]["pid"]) == (name in restarted), name
        assert row["phase"] == "ready"
    assert not [name for name, each in restarted.items() if each["killed"]]
