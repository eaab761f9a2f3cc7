"""The knee is found from below and from above, within its tolerance and a bounded number of probes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench.knee import MAX_RATES, TOLERANCE, TRIES, find_knee


@settings(deadline=None)
@given(st.floats(300, 100_000), st.floats(1_000, 20_000))
def test_within_the_tolerance(capacity, start):
    asked = []
    found = find_knee(lambda rate: asked.append(rate) or rate <= capacity, start)
    assert len(set(asked)) <= MAX_RATES
    assert found is not None
    assert found <= capacity
    if len(set(asked)) < MAX_RATES:
        assert capacity <= found * (1 + TOLERANCE) * 1.0001


def test_nothing_carried():
    asked = []
    assert find_knee(lambda rate: asked.append(rate), 1_000) is None
    assert len(asked) == MAX_RATES * TRIES


def test_everything_carried_is_the_last_rate_tried():
    asked = []
    assert find_knee(lambda rate: asked.append(rate) or True, 1_000) == asked[-1] == max(asked)


def test_one_hiccup_is_not_the_knee():
    asked = []
    found = find_knee(lambda rate: asked.append(rate) or (rate <= 10_000 and len(asked) != 2), 1_000)
    assert found is not None
    assert found > 9_500
