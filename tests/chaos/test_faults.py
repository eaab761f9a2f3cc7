"""The fault table: kill -9 and SIGSTOP of every process under 1,000 requests/s, every request ends OK, exactly once."""

import pytest

from tests.support.faults import chaos_seed, ledger, recovery_s, table, traffic, two_of_each

pytestmark = pytest.mark.timeout(600)

KILL_LIMIT_S = 20.0
FREEZE_LIMIT_S = 8.0
ATTEMPTS = 6
CLAIMED = "is claimed with producer id"
REFUSED = "was refused: another writer has taken it over"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with two_of_each(tmp_path_factory.mktemp("faults")) as running:
        yield running


def check(run, record, stack, limit_s):
    rows = [(fault, recovery_s(record, fault.at_us, stack.settings.partitions)) for fault in run.faults]
    print("\n" + table(rows))
    print({name: record.summary[name] for name in ("sent", "ok", "missing", "duplicated", "reaped", "max_ms")})
    counts = record.summary
    assert counts["unacknowledged"] == 0
    assert counts["ok"] == counts["sent"] == counts["acknowledged"], counts
    assert (counts["missing"], counts["duplicated"], counts["reaped"], counts["foreign"]) == (0, 0, 0, run.num_probes)
    books = ledger(stack)
    assert books["exit_status"] == 0, books
    total = books
    assert (total["missing"], total["duplicated"], total["reaped"], total["in_flight"]) == (0, 0, 0, 0)
    assert total["received"] == total["ok"]
    for fault, seconds in rows:
        assert seconds is not None, f"no request was answered after {fault}"
        assert seconds <= limit_s, f"{fault} took {seconds} s"


def test_kill_of_every_process(stack, tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    with traffic(stack, tmp_path, seed) as run:
        for stage in ("edge", "router", "executor", "validator"):
            run.kill(f"{stage}-{run.rng.randrange(2)}")
        run.kill("orchestrator")
        run.kill("control")
        run.kill("redis")
        check(run, run.finish(), stack, KILL_LIMIT_S)


def test_freeze_of_every_process(stack, tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    with traffic(stack, tmp_path, seed) as run:
        for stage in ("edge", "router", "executor"):
            run.freeze(f"{stage}-{run.rng.randrange(2)}")
        run.freeze("orchestrator")
        run.freeze("control")
        shut_out(stack, run)
        check(run, run.finish(), stack, FREEZE_LIMIT_S)


def shut_out(stack, run):
    """Freeze Validators in the middle of their work: others take over, and a woken one's write is refused.

    A woken process may hear of its loss before it writes, so several are tried.
    """
    for attempt in range(ATTEMPTS):
        frozen, other = ("validator-0", "validator-1") if attempt % 2 else ("validator-1", "validator-0")
        claims, refusals = stack.log(other).count(CLAIMED), stack.log(frozen).count(REFUSED)
        run.freeze_with_answers_in_hand(frozen)
        assert stack.log(other).count(CLAIMED) > claims, f"nobody took over from {frozen}"
        refused = stack.log(frozen).count(REFUSED) - refusals
        print(f"refused writes of the woken {frozen}: {refused}")
        if refused:
            return
    pytest.fail(f"no write of a woken Validator was refused in {ATTEMPTS} freezes")
