"""The fault table: kill -9 and SIGSTOP of every process under 1,000 requests/s, every request ends OK, exactly once."""

import pytest

from tests.support.faults import chaos_seed, ledger, recovery_s, table, traffic, two_of_each

pytestmark = pytest.mark.timeout(600)

KILL_LIMIT_S = 20.0
FREEZE_LIMIT_S = 8.0


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
        check(run, run.finish(), stack, KILL_LIMIT_S)


def test_freeze_of_every_process(stack, tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    with traffic(stack, tmp_path, seed) as run:
        frozen_validator = f"validator-{run.rng.randrange(2)}"
        before = stack.log(frozen_validator).count("was refused: another writer has taken it over")
        other = "validator-1" if frozen_validator == "validator-0" else "validator-0"
        claims = stack.log(other).count("is claimed with producer id")
        for stage in ("edge", "router", "executor"):
            run.freeze(f"{stage}-{run.rng.randrange(2)}")
        run.freeze(frozen_validator)
        run.freeze("orchestrator")
        run.freeze("control")
        check(run, run.finish(), stack, FREEZE_LIMIT_S)
    assert stack.log(other).count("is claimed with producer id") > claims, "nobody took the frozen partitions over"
    refused = stack.log(frozen_validator).count("was refused: another writer has taken it over") - before
    print(f"refused writes of the woken {frozen_validator}: {refused}")
    assert refused >= 1
