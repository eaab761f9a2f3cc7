"""The bitmap of answered offsets against a plain set."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.terminals import Terminals


def offsets(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Model(RuleBasedStateMachine):
    """``Terminals`` and a dictionary offset -> state must agree after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 1000
        self.terminals = Terminals.starting_at(self.first)
        self.states: dict[int, str] = {}

    def low(self) -> int:
        at = self.first
        while self.states.get(at) == "set":
            at += 1
        return at

    def set_all(self, chosen: list[int], state: str) -> None:
        self.states |= {offset: state for offset in chosen if offset >= self.low()}

    @rule(start=st.integers(0, 9_000), length=st.integers(1, 6_000))
    def answer_a_run(self, start: int, length: int) -> None:
        chosen = list(range(self.first + start, self.first + start + length))
        self.set_all(chosen, "set")
        self.terminals = self.terminals.mark_set(offsets(*chosen))

    @rule(length=st.integers(1, 6_000))
    def answer_from_the_watermark_on(self, length: int) -> None:
        chosen = list(range(self.low(), self.low() + length))
        self.set_all(chosen, "set")
        self.terminals = self.terminals.mark_set(offsets(*chosen))

    @rule(chosen=st.lists(st.integers(0, 9_000), min_size=1, max_size=20, unique=True))
    def begin(self, chosen: list[int]) -> None:
        wanted = offsets(*(self.first + each for each in chosen))
        still_open = wanted[self.terminals.open_mask(wanted)].tolist()
        assert still_open == [each for each in wanted.tolist() if each >= self.low() and each not in self.states]
        self.set_all(still_open, "pending")
        self.terminals = self.terminals.mark_pending(offsets(*still_open))

    @rule(drawn=st.lists(st.tuples(st.integers(0, 9_000), st.booleans()), min_size=1, max_size=20))
    def begin_rows(self, drawn: list[tuple[int, bool]]) -> None:
        """A frame's rows: some are not wanted, some stand there twice."""
        wanted = offsets(*(self.first + each for each, _ in drawn))
        expected: list[int] = []
        for row, (each, is_wanted) in enumerate(drawn):
            offset = self.first + each
            if is_wanted and offset >= self.low() and offset not in self.states:
                expected.append(row)
                self.states[offset] = "pending"
        before = self.terminals.num_pending
        begun, rows = self.terminals.begin(wanted, np.array([is_wanted for _, is_wanted in drawn]))
        assert rows.tolist() == expected
        assert self.terminals.num_pending == before  # a value: the old one is as it was
        self.terminals = begun

    @precondition(lambda self: "pending" in self.states.values())
    @rule()
    def confirm_all(self) -> None:
        chosen = [offset for offset, state in self.states.items() if state == "pending"]
        self.set_all(chosen, "set")
        self.terminals = self.terminals.mark_set(offsets(*chosen))

    @rule()
    def restart_from_a_checkpoint(self) -> None:
        low, bits = self.terminals.to_bits()
        self.terminals = Terminals.from_bits(low, bits)
        self.states = {offset: state for offset, state in self.states.items() if state == "set"}

    @invariant()
    def agrees(self) -> None:
        low = self.low()
        assert self.terminals.low_watermark == low
        assert self.terminals.num_pending == sum(state == "pending" for state in self.states.values())
        marked = [offset for offset, state in self.states.items() if state == "set"]
        assert self.terminals.highest_set == max([low - 1, *marked])
        end = self.first + 16_000
        expected = [offset for offset in range(low, end) if self.states.get(offset) != "set"]
        assert self.terminals.open_below(end).tolist() == expected


Model.TestCase.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
TestModel = Model.TestCase


def test_bits_above_the_watermark_survive_when_the_array_moves() -> None:
    terminals = Terminals.starting_at(0).mark_set(np.arange(60_000, 99_000, dtype=np.int64))
    terminals = terminals.mark_set(np.arange(0, 59_990, dtype=np.int64))
    terminals = terminals.mark_pending(offsets(59_995))  # the array begins anew at the low watermark here
    assert terminals.low_watermark == 59_990
    assert terminals.open_below(99_000).tolist() == list(range(59_990, 60_000))
    assert not terminals.open_mask(np.arange(60_000, 99_000)).any()


def test_gaps_are_terminal() -> None:
    terminals = Terminals.starting_at(10).mark_gaps(offsets(12, 15, 20), np.array([2, 0, 3]))
    assert terminals.low_watermark == 12
    assert terminals.open_below(21).tolist() == [12, 13, 14, 15, 16, 20]


def test_marks_below_the_watermark_and_empty_ones_change_nothing() -> None:
    terminals = Terminals.starting_at(10)
    assert terminals.mark_set(offsets(3, 9)) is terminals
    assert terminals.mark_pending(offsets()) is terminals
    assert terminals.mark_gaps(offsets(12), np.array([0])) is terminals
    assert terminals.open_mask(offsets(3, 9, 10)).tolist() == [False, False, True]
    assert terminals.open_below(10).tolist() == terminals.open_below(3).tolist() == []


def test_a_change_leaves_the_older_value_alone() -> None:
    before = Terminals.starting_at(0)
    after = before.mark_pending(offsets(1))
    assert before.open_mask(offsets(1)).tolist() == [True]
    assert after.open_mask(offsets(0, 1)).tolist() == [True, False]


@given(st.integers(0, 2**40), st.sets(st.integers(0, 300)))
def test_bits_round_trip(base: int, chosen: set[int]) -> None:
    terminals = Terminals.starting_at(base).mark_set(offsets(*(base + each for each in chosen)))
    terminals = terminals.mark_pending(offsets(base + 400))
    low, bits = terminals.to_bits()
    restored = Terminals.from_bits(low, bits)
    assert restored.low_watermark == low
    assert restored.open_below(base + 500).tolist() == terminals.open_below(base + 500).tolist()
    assert restored.num_pending == 0
