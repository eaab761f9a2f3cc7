"""The fault table: kill -9 and SIGSTOP under 1,000 requests/s (executors, Redis, broker: test_fast_path.py)."""

import pytest

from tests.support.faults import chaos_seed, traffic

pytestmark = pytest.mark.timeout(600)

KILL_LIMIT_S = 20.0
FREEZE_LIMIT_S = 8.0
ATTEMPTS = 6
REFUSED = "was refused: another writer has taken it over"


@pytest.fixture
def stack(two):
    return two


def test_kill_of_every_process(stack, tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    with traffic(stack, tmp_path, seed) as run:
        for stage in ("edge", "router", "validator"):
            run.kill(f"{stage}-{run.rng.randrange(2)}")
        run.kill("orchestrator")
        run.kill("control")
        run.check(KILL_LIMIT_S)


def test_freeze_of_every_process(stack, tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    with traffic(stack, tmp_path, seed) as run:
        for stage in ("edge", "router"):
            run.freeze_until_replaced(f"{stage}-{run.rng.randrange(2)}")
        run.freeze("orchestrator")
        run.freeze("control")
        shut_out(stack, run)
        run.check(FREEZE_LIMIT_S)


def shut_out(stack, run):
    """Freeze Validators in the middle of their work: others take over, and a woken one's write is refused.

    A woken process may hear of its loss before it writes, so several are tried.
    """
    for attempt in range(ATTEMPTS):
        frozen = f"validator-{(attempt + 1) % 2}"
        refusals = stack.log(frozen).count(REFUSED)
        run.freeze_with_answers_in_hand(frozen)
        refused = stack.log(frozen).count(REFUSED) - refusals
        print(f"refused writes of the woken {frozen}: {refused}")
        if refused:
            return
    pytest.fail(f"no write of a woken Validator was refused in {ATTEMPTS} freezes")
