"""Acknowledgements leave in order, and never past unfinished work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.ordering import InOrder


def test_later_items_wait_for_the_first() -> None:
    window: InOrder[str] = InOrder()
    first, second, third = window.start("a"), window.start("b"), window.start("c")
    window.add(first, 2)
    assert window.finish(second) == []
    assert window.finish(first) == []
    assert window.finish(first) == []
    assert window.unfinished() == ["a", "b", "c"]
    assert len(window) == 3
    assert window.finish(first) == ["a", "b"]
    assert window.finish(third) == ["c"]
    assert len(window) == 0


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_finishing(parts: list[int], rng: object) -> None:
    window: InOrder[int] = InOrder()
    entries = []
    for item, count in enumerate(parts):
        entries.append(window.start(item))
        window.add(entries[-1], count - 1)
    left = dict(enumerate(parts))
    steps = [item for item, count in enumerate(parts) for _ in range(count)]
    rng.shuffle(steps)  # type: ignore[attr-defined]
    released: list[int] = []
    for item in steps:
        left[item] -= 1
        released += window.finish(entries[item])
        unfinished = [each for each, count in left.items() if count]
        assert released == list(range(min(unfinished, default=len(parts))))
    assert window.unfinished() == []
