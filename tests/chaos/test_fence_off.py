"""What the fence is worth: the same freeze without it answers requests twice."""

import pytest

from tests.support.faults import chaos_seed, ledger, traffic, two_of_each

pytestmark = pytest.mark.timeout(300)

ATTEMPTS = 6


def test_without_the_fence_a_woken_validator_answers_twice(tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed}")
    with two_of_each(tmp_path, fence=False, edges=1, routers=1, executors=1) as stack:
        with traffic(stack, tmp_path, seed) as run:
            for attempt in range(ATTEMPTS):  # a woken process may hear of its loss before it writes
                run.freeze_with_answers_in_hand(f"validator-{attempt % 2}")
                if ledger(stack)["duplicated"]:
                    break
            record = run.finish()
        books = ledger(stack)
    print(f"\nduplicated without the fence: {record.summary['duplicated']} of {record.summary['sent']}")
    assert record.summary["duplicated"] > 0
    assert books["exit_status"] == 7
    known_to_the_ledger_alone = books["duplicated"] - record.summary["duplicated"]  # probes, not the generator's
    assert 0 <= known_to_the_ledger_alone <= run.num_probes
