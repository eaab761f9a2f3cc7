"""A tenth of what is tried first, and never more: whatever the order of first tries and retries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.retry_budget import FULL, NO_RETRIES, SHARE, Tokens, earned, spent

acts = st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b"]), st.integers(0, 300)), max_size=60)


@given(acts)
def test_retries_stay_below_a_full_bucket_and_a_tenth_of_the_first_tries_per_name(
    steps: list[tuple[bool, str, int]],
) -> None:
    tokens: Tokens = NO_RETRIES
    tried, granted = {"a": 0, "b": 0}, {"a": 0, "b": 0}
    for is_first, name, rows in steps:
        before = dict(tokens)
        if is_first:
            tokens = earned(tokens, name, rows)
            tried[name] += rows
        else:
            tokens, given_now = spent(tokens, name, rows)
            granted[name] += given_now
            assert given_now == min(rows, int(before.get(name, FULL)))
        assert granted[name] <= FULL + SHARE * tried[name] + 1e-6
        assert all(0 <= value < FULL for value in tokens.values())
        other = "b" if name == "a" else "a"
        assert tokens.get(other) == before.get(other)


def test_what_never_fails_costs_nothing() -> None:
    assert earned(NO_RETRIES, "a", 1_000_000) is NO_RETRIES


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    tokens, granted = spent(NO_RETRIES, "a", 3)
    assert (granted, tokens) == (3, {"a": FULL - 3})
    assert earned(tokens, "a", 29) == {"a": FULL - 3 + 2.9}
    assert earned(tokens, "a", 30) == {}


def test_an_empty_bucket_grants_nothing_until_a_whole_token_is_there() -> None:
    tokens, granted = spent(NO_RETRIES, "a", 1_000)
    assert granted == FULL
    assert spent(tokens, "a", 1) == (tokens, 0)
    assert spent(earned(tokens, "a", 9), "a", 1)[1] == 0
    assert spent(earned(tokens, "a", 10), "a", 5)[1] == 1
