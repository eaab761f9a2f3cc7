"""What the fence is worth: the same freeze without it answers requests twice."""

import pytest

from tests.support.faults import chaos_seed, ledger, traffic, two_of_each

pytestmark = pytest.mark.timeout(300)


def test_without_the_fence_a_woken_validator_answers_twice(tmp_path):
    seed = chaos_seed()
    print(f"\nseed {seed}")
    with two_of_each(tmp_path, fence=False) as stack:
        with traffic(stack, tmp_path, seed) as run:
            for validator in ("validator-0", "validator-1"):
                run.freeze_with_answers_in_hand(validator)
            record = run.finish()
        books = ledger(stack)
    print(f"\nduplicated without the fence: {record.summary['duplicated']} of {record.summary['sent']}")
    assert record.summary["duplicated"] > 0
    assert books["exit_status"] == 7
    assert (
        0 <= books["duplicated"] - record.summary["duplicated"] <= run.num_probes
    )  # which the generator does not know
