"""A process's own answers: the newest used stay, within the bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.cache.local import ENTRY_BYTES, LocalLevel
from tests.support.cached import entry
from tests.support.frames import T

WEIGHT = ENTRY_BYTES + 12


def test_what_was_used_last_stays() -> None:
    level = LocalLevel(2 * WEIGHT)
    level.put(b"a", entry(1.0))
    level.put(b"b", entry(2.0))
    assert level.get(b"a", 0) == entry(1.0)
    level.put(b"c", entry(3.0))
    assert [level.get(key, 0) for key in (b"a", b"b", b"c")] == [entry(1.0), None, entry(3.0)]


def test_an_old_answer_is_dropped() -> None:
    level = LocalLevel(10 * WEIGHT)
    level.put(b"a", entry(filled_us=T))
    assert level.get(b"a", T - 1) is not None
    assert level.get(b"a", T) is None
    assert (len(level), level.num_bytes) == (0, 0)


def test_what_does_not_fit_at_all_is_not_kept() -> None:
    level = LocalLevel(WEIGHT)
    level.put(b"a", entry())
    level.put(b"b", entry(items=2))
    assert (level.get(b"a", 0), level.get(b"b", 0)) == (entry(), None)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), max_size=60), st.integers(0, 8))
def test_the_bound_holds_and_the_sum_is_right(puts: list[tuple[int, int]], room: int) -> None:
    level = LocalLevel(room * WEIGHT)
    newest: dict[bytes, int] = {}
    for key, items in puts:
        name = bytes([key])
        level.put(name, entry(items=items))
        newest[name] = items
        assert level.num_bytes <= room * WEIGHT
    kept = {name: level.get(name, 0) for name in newest}
    assert level.num_bytes == sum(ENTRY_BYTES + held.num_bytes for held in kept.values() if held is not None)
    assert all(held is None or held.items == newest[name] for name, held in kept.items())
