"""Hedging: what takes long goes once more, to another executor's lane, within five in a hundred, and in bounds."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import hedge
from agents.hedge import BURST, COST, MAX_BYTES, MIN_SAMPLES, NEVER, Hedging
from agents.under_way import LANE, MAX_ROWS, OFFSET
from schemas.frame import InferenceFrame
from streams.columns import ERROR, EXPIRED, HEDGE, OK, PRIMARY, Columns, segment_starts
from streams.frame_effects import Answered, Followed, SendFrame
from streams.memory_view import MemoryView
from tests.support.frames import MODEL, T, frame, memory, plan, row, with_blob

ROUTED = "inference.routed"
OTHER = replace(MODEL, model="other")
BOTH = memory(MODEL, OTHER, replace(plan("digits", ("v1.0.0", 100)), hedge=True), plan("other", ("v1.0.0", 100)))
LATE = T + 60_000_000
MS = 1_000


def rows(first: int, count: int, *, model: str = "digits", deadline_us: int = LATE) -> InferenceFrame:
    return frame([row(at, model=model, deadline_us=deadline_us) for at in range(first, first + count)])


class Partition:
    """A partition's hedging between a Router and executors, with a clock that the test sets."""

    def __init__(self, view: MemoryView = BOTH, lanes: int = 2, num_slow: int = 0) -> None:
        self.view, self.lanes, self.num_slow = view, lanes, num_slow
        self.now_us = T
        self.state: Hedging | None = hedge.heard(None, Followed(on=True), T)
        self.copies: list[SendFrame] = []

    @property
    def known(self) -> Hedging:
        assert self.state is not None
        return self.state

    def send(self, given_frame: InferenceFrame, lane: int = 0, topic: str = ROUTED) -> None:
        self.state = hedge.watched(self.state, [SendFrame(topic, lane, given_frame)], self.view, self.now_us)

    def answer(self, first: int, count: int, *, status: int = OK, role: int = PRIMARY, by: str = "executor-0") -> None:
        offsets = np.arange(first, first + count, dtype="<i8")
        heard = Answered(offsets, np.full(count, status, "|u1"), np.full(count, role, "|u1"), by)
        self.state = hedge.heard(self.state, heard, self.now_us)

    def tick(self, after_us: int = 0) -> list[SendFrame]:
        self.now_us += after_us
        self.state, copies = hedge.hedged(self.known, self.view, self.lanes, self.num_slow, self.now_us)
        self.copies += copies
        return list(copies)

    def warm(self, count: int = 400, takes_us: int = 2 * MS, first: int = 1_000) -> None:
        """As many rows as it takes, each in ``takes_us``; with 400 of them credit is full afterwards."""
        self.send(rows(first, count))
        self.now_us += takes_us
        self.answer(first, count)
        self.tick()


def offsets_of(copy: SendFrame) -> list[int]:
    offsets: list[int] = Columns.of(copy.frame).offsets.tolist()
    return offsets


def test_rows_older_than_the_p95_go_once_more_to_the_other_lane() -> None:
    one = Partition()
    one.warm()
    one.send(rows(5_000, 3))
    assert one.tick(2 * MS) == []
    one.answer(5_001, 1)
    (copy,) = one.tick(MS)
    assert (copy.topic, copy.partition, offsets_of(copy)) == (ROUTED, 1, [5_000, 5_002])
    assert Columns.of(copy.frame).roles.tolist() == [HEDGE, HEDGE]
    assert copy.frame.routed_us == one.now_us
    values = np.frombuffer(copy.frame.segments[0].inputs[0].data, "<f4")[::2].tolist()
    assert values == [5_000.0, 5_002.0]
    assert copy.frame.segments[0].version == rows(0, 1).segments[0].version
    assert one.tick(50 * MS) == []
    assert (one.known.num_hedged, one.known.num_alone) == (2, 0)


def test_some_copies_are_kept_for_rows_that_are_older_still() -> None:
    one = Partition()
    one.warm()
    one.send(rows(5_000, 30))
    (copy,) = one.tick(3 * MS)
    assert offsets_of(copy) == list(range(5_000, 5_010))
    assert one.tick() == []
    (copy,) = one.tick(2 * MS)
    assert offsets_of(copy) == list(range(5_010, 5_020))


def test_rows_of_other_models_of_a_blob_tried_again_or_that_end_here_are_not_kept() -> None:
    one = Partition()
    one.warm()
    mixed = frame([row(5_000, deadline_us=LATE), row(5_001, model="other"), with_blob(row(5_002, deadline_us=LATE))])
    one.send(mixed)
    one.send(replace(rows(5_010, 3), attempt=1))
    one.send(replace(rows(5_020, 3), roles=bytes([HEDGE] * 3)))
    one.send(rows(5_030, 3), topic="inference.executed")
    one.send(rows(5_040, 3, model="other"))
    (copy,) = one.tick(4 * MS)
    assert offsets_of(copy) == [5_000]


def test_no_state_is_made_where_no_model_is_hedged() -> None:
    plain = memory(MODEL, plan("digits", ("v1.0.0", 100)))
    assert hedge.watched(None, [SendFrame(ROUTED, 0, rows(1, 3))], plain, T) is None
    assert hedge.heard(None, Answered(np.arange(3), np.ones(3), np.zeros(3), ""), T) is None
    assert hedge.hedged_models(plain) == frozenset()
    assert hedge.hedged_models(BOTH) == {"digits"}


def test_ordered_models_are_not_hedged() -> None:
    plans = [replace(plan(name, ("v1.0.0", 100)), hedge=True) for name in ("digits", "other")]
    assert hedge.hedged_models(memory(replace(MODEL, ordered=True), OTHER, *plans)) == {"other"}


def test_a_plan_that_hedges_no_more_forgets_all_but_that_answers_are_followed() -> None:
    one = Partition()
    one.warm()
    one.send(rows(5_000, 3))
    one.view = memory(MODEL, plan("digits", ("v1.0.0", 100)), sequence=41)
    assert one.tick(50 * MS) == []
    assert (one.known.rows.shape[1], len(one.known.kept), one.known.due_us, one.known.followed) == (0, 0, NEVER, True)


def test_rows_of_a_model_that_is_hedged_no_more_are_forgotten_beside_another_that_is() -> None:
    on = replace(plan("other", ("v1.0.0", 100)), hedge=True)
    one = Partition(memory(MODEL, OTHER, replace(plan("digits", ("v1.0.0", 100)), hedge=True), on))
    one.warm()
    one.send(rows(5_000, 3))
    one.view = memory(MODEL, OTHER, plan("digits", ("v1.0.0", 100)), on, sequence=41)
    assert one.tick(200 * MS) == []
    assert one.known.rows.shape[1] == 0
    one.send(rows(6_000, 3))
    assert one.known.rows.shape[1] == 0


def test_the_first_rows_are_not_hedged() -> None:
    one = Partition()
    one.warm(MIN_SAMPLES - 1)
    one.send(rows(5_000, 1))
    assert one.tick(500 * MS) == []
    one.answer(5_000, 1)
    one.send(rows(5_001, 1))
    (copy,) = one.tick(900 * MS)
    assert offsets_of(copy) == [5_001]


def test_without_news_of_answers_nothing_is_hedged_and_what_was_under_way_never_is() -> None:
    one = Partition()
    one.warm()
    one.send(rows(5_000, 3))
    one.state = hedge.heard(one.state, Followed(on=False), one.now_us)
    one.send(rows(5_010, 3))
    assert one.tick(50 * MS) == []
    one.state = hedge.heard(one.state, Followed(on=True), one.now_us)
    assert one.tick(50 * MS) == []
    one.send(rows(5_020, 1))
    assert [offsets_of(each) for each in one.tick(50 * MS)] == [[5_020]]


@pytest.mark.parametrize("status", [ERROR, EXPIRED])
def test_a_row_that_ended_badly_is_answered_and_a_copy_that_did_is_not_heard_of(status: int) -> None:
    one = Partition()
    one.warm()
    one.send(rows(5_000, 2))
    one.answer(5_000, 1, status=status)
    one.answer(5_001, 1, status=status, role=HEDGE)
    assert [offsets_of(each) for each in one.tick(4 * MS)] == [[5_001]]
    one.answer(5_001, 1, status=OK, role=HEDGE, by="executor-1")
    assert one.known.rows.shape[1] == 0
    assert one.known.served == {0: "executor-0", 1: "executor-1"}


def test_a_row_with_less_time_left_than_the_median_is_not_hedged() -> None:
    one = Partition()
    one.warm(takes_us=20 * MS)
    one.send(rows(5_000, 1, deadline_us=one.now_us + 30 * MS))
    one.send(rows(5_001, 1, deadline_us=one.now_us + 90 * MS))
    assert [offsets_of(each) for each in one.tick(25 * MS)] == [[5_001]]


def test_a_lane_of_another_executor_is_taken_where_it_is_known() -> None:
    one = Partition(lanes=4)
    one.warm()
    for lane, executor in enumerate(("executor-0", "executor-0", "executor-1", "executor-0")):
        one.send(rows(2_000 + lane, 1), lane)
        one.answer(2_000 + lane, 1, by=executor)
    for lane in range(4):
        one.send(rows(5_000 + lane, 1), lane)
    assert [(each.partition, offsets_of(each)) for each in one.tick(5 * MS)] == [
        (2, [5_000]),
        (2, [5_001]),
        (3, [5_002]),
        (2, [5_003]),
    ]


@pytest.mark.parametrize(("lanes", "num_slow", "lane"), [(1, 0, 0), (2, 1, 0), (2, 1, 1)])
def test_a_class_of_one_lane_has_nobody_else(lanes: int, num_slow: int, lane: int) -> None:
    one = Partition(lanes=lanes, num_slow=num_slow)
    one.warm()
    one.send(rows(5_000, 2), lane)
    assert one.tick(5 * MS) == []
    assert one.tick(5 * MS) == []
    assert (one.known.num_hedged, one.known.num_alone) == (0, 2)


def test_one_executor_that_reads_all_lanes_gets_no_copy_of_its_own() -> None:
    one = Partition()
    one.warm()
    one.send(rows(2_000, 1), 1)
    one.answer(2_000, 1, by="executor-0")
    one.send(rows(5_000, 1), 0)
    assert one.tick(5 * MS) == []
    assert one.known.num_alone == 1


def test_a_frame_of_several_segments_gives_copies_of_the_rows_that_are_late() -> None:
    both = memory(MODEL, OTHER, *[replace(plan(name, ("v1.0.0", 100)), hedge=True) for name in ("digits", "other")])
    one = Partition(both)
    one.warm()
    made = frame([row(at, model=("digits", "other")[at % 2], items=1 + at % 3, deadline_us=LATE) for at in range(20)])
    one.send(made)
    one.answer(0, 7)
    (copy,) = one.tick(5 * MS)
    assert offsets_of(copy) == [8, 10, 12, 14, 16, 18]  # nothing is known of the other model's times
    (segment,) = copy.frame.segments
    assert segment_starts(copy.frame) == [0, 6]
    assert set(np.frombuffer(segment.inputs[0].data, "<f4").tolist()) == set(map(float, offsets_of(copy)))


def test_the_next_look_is_due_while_rows_are_under_way() -> None:
    one = Partition()
    assert one.known.due_us == NEVER
    one.send(rows(1, 1))
    assert one.known.due_us == T + hedge.TICK_US
    one.tick(hedge.TICK_US)
    assert one.known.due_us == one.now_us + hedge.TICK_US
    one.answer(1, 1)
    one.tick(hedge.TICK_US)
    assert one.known.due_us == NEVER


def test_a_clock_that_goes_back_does_not_put_the_looks_off() -> None:
    one = Partition()
    one.send(rows(1, 1))
    one.now_us -= 10_000_000
    one.send(rows(2, 1))
    assert one.known.due_us == one.now_us + hedge.TICK_US


def test_rows_whose_deadline_passed_and_frames_that_nothing_waits_for_are_let_go() -> None:
    one = Partition()
    one.send(rows(1, 5, deadline_us=T + 50 * MS))
    one.send(rows(10, 5))
    one.answer(10, 5)
    one.tick(200 * MS)
    assert (one.known.rows.shape[1], len(one.known.kept), one.known.kept_bytes) == (0, 0, 0)


def test_of_too_many_bytes_the_oldest_frames_go_and_their_rows_are_not_hedged() -> None:
    one = Partition()
    one.warm()
    width = MAX_BYTES // 3
    for at in range(6):
        one.send(frame([row(5_000 + at, width=width // 4, deadline_us=LATE)]))
        assert one.known.kept_bytes <= MAX_BYTES
    assert [offsets_of(each) for each in one.tick(5 * MS)] == [[5_004], [5_005]]
    one.answer(5_000, 6)
    assert one.known.rows.shape[1] == 0


def test_of_too_many_rows_the_oldest_go() -> None:
    one = Partition()
    for first in range(0, MAX_ROWS + 2_000, 500):
        one.send(rows(first, 500))
        assert one.known.rows.shape[1] <= MAX_ROWS
    assert one.known.rows[OFFSET].tolist() == list(range(first + 500 - MAX_ROWS, first + 500))


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 60)),
        st.tuples(st.just("answer"), st.integers(0, 60)),
        st.tuples(st.just("repeat"), st.integers(1, 5)),
        st.tuples(st.just("tick"), st.integers(1, 40)),
    ),
    min_size=20,
    max_size=120,
)


@settings(max_examples=40, deadline=None)
@given(_steps, st.integers(1, 4))
def test_never_more_than_the_budget_never_twice_never_what_is_answered(
    steps: list[tuple[str, int]], lanes: int
) -> None:
    one = Partition(lanes=lanes)
    one.warm(MIN_SAMPLES)
    sent, end, next_answer = MIN_SAMPLES, 10_000, 10_000
    answered: set[int] = set()
    copied: set[int] = set()
    for what, number in steps:
        if what == "send":
            one.send(rows(end, number), end % lanes)
            sent, end = sent + number, end + number
        elif what == "answer":
            count = min(number, end - next_answer)
            one.answer(next_answer, count)
            answered.update(range(next_answer, next_answer + count))
            next_answer += count
        elif what == "repeat" and end > 10_000 + number:
            one.send(rows(end - number, number), 0)
            sent += number
            again = answered & set(range(end - number, end))  # they are rows like new ones
            answered -= again
            copied -= again
        else:
            for copy in one.tick(number * MS):
                offsets = set(offsets_of(copy))
                assert not offsets & answered
                assert not offsets & copied
                copied |= offsets
                lanes_before = one.known.rows[LANE, np.isin(one.known.rows[OFFSET], list(offsets))]
                assert copy.partition not in lanes_before
        assert one.known.num_hedged * COST <= sent
        assert (one.known.credits <= COST * BURST).all()
        assert (one.known.credits >= 0).all()
        assert (np.diff(one.known.rows[OFFSET]) > 0).all()
        assert one.known.rows.shape[1] <= MAX_ROWS
        assert one.known.kept_bytes == sum(each.num_bytes for each in one.known.kept.values()) <= MAX_BYTES


def served_in_virtual_time(*, hedges: bool, seconds: int = 30) -> tuple[list[int], int]:
    """What rows take (us, sorted) and how many copies there were, at 200 rows/s over two executors.

    The one at home stands still for 300 ms each ten seconds; a row takes 4 to 30 ms otherwise.
    """
    rng, one = random.Random(7), Partition()
    arrivals = [(T + at * 5 * MS, "send", at, 0) for at in range(seconds * 200)]
    events: list[tuple[int, str, int, int]] = [*arrivals]
    heapq.heapify(events)
    took: dict[int, int] = {}
    number_of_copies = 0

    def executed_us(lane: int, now_us: int) -> int:
        done_us = now_us + rng.randint(4 * MS, 20 * MS) + rng.choice((0, 0, 0, 10 * MS))
        since_us = (done_us - T) % 10_000_000
        return done_us + 300 * MS - since_us if lane == 0 and since_us < 300 * MS else done_us

    while events:
        one.now_us, what, at, lane = heapq.heappop(events)
        if what == "send":
            one.send(rows(at, 1, deadline_us=one.now_us + 5_000_000), 0)
            heapq.heappush(events, (executed_us(0, one.now_us), "executed", at, 0))
        elif what == "executed":
            took.setdefault(at, one.now_us - T - at * 5 * MS)
            one.answer(at, 1, role=HEDGE if lane else PRIMARY, by=f"executor-{lane}")
        if hedges and one.known.due_us <= one.now_us:
            for copy in one.tick():
                number_of_copies += len(offsets_of(copy))
                for offset in offsets_of(copy):
                    heapq.heappush(events, (executed_us(1, one.now_us), "executed", offset, copy.partition))
    return sorted(took.values()), number_of_copies


def test_in_virtual_time_the_tail_is_shorter_for_a_twentieth_of_the_rows() -> None:
    plain, none = served_in_virtual_time(hedges=False)
    hedged, copies = served_in_virtual_time(hedges=True)
    p99_ms = [each[len(each) * 99 // 100] / 1000 for each in (plain, hedged)]
    mean_of_worst_ms = [sum(each[len(each) * 97 // 100 :]) / len(each) / 0.03 / 1000 for each in (plain, hedged)]
    print(f"\np99 {p99_ms} ms, mean of the slowest 3 % {mean_of_worst_ms} ms, {copies} copies of {len(plain)}")
    assert none == 0
    assert len(hedged) == len(plain)
    assert 0 < copies <= len(plain) // 20
    assert p99_ms[1] < p99_ms[0]
