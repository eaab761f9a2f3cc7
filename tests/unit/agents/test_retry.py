"""Rows that come back: they pay, wait, and are routed again, or end with what they failed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.retry import PINNED, cohort_of, failed_version, first_tries, pinned_version, retried
from agents.router import RouterParams, RouterState, decide
from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, RowError
from streams.agent import TICK, Event
from streams.columns import ERROR, Columns, num_rows, request_ids
from streams.frame_effects import Defer, SendFrame
from streams.retry_budget import FULL, NO_RETRIES
from tests.support.frames import MODEL, T, frame, memory, plan, row

PARAMS = RouterParams(num_lanes=2)
THERE = RecordCoordinate("inference.retries", 1, 5)


def back(
    offsets: Sequence[int] = (1, 2, 3), *, attempt: int = 1, not_before_us: int = T + 50_000, cohort: str = "",
    late: Sequence[int] = (),
) -> InferenceFrame:  # fmt: skip
    """Rows that failed on v1.0.0; those in ``late`` have T + 10 as their deadline."""
    made = frame([row(offset, deadline_us=T + 10 if offset in late else T + 1_000_000) for offset in offsets])
    segments = tuple(replace(segment, version="v1.0.0", cohort=cohort) for segment in made.segments)
    errors = tuple(RowError(at, "execution_failed", f"no {offset}") for at, offset in enumerate(offsets))
    return replace(made, segments=segments, errors=errors, attempt=attempt, not_before_us=not_before_us)


def offsets_of(made: InferenceFrame) -> list[int]:
    found: list[int] = Columns.of(made).offsets.tolist()
    return found


def ended(effects: Sequence[object]) -> dict[int, tuple[str, str]]:
    """Code and sentence by offset of what ended; all of it is an error of the first try's kind."""
    found: dict[int, tuple[str, str]] = {}
    for effect in effects:
        if isinstance(effect, SendFrame) and effect.topic == "inference.executed":
            made, offsets = effect.frame, offsets_of(effect.frame)
            assert (set(made.statuses), made.attempt, made.not_before_us) == ({ERROR}, 0, 0)
            assert all(not segment.inputs for segment in made.segments)
            found |= {offsets[error.row]: (error.code, error.message) for error in made.errors}
    return found


def test_rows_wait_for_their_time_and_pay_once() -> None:
    first = retried(back(), NO_RETRIES, T, arrives=True)
    (effect,) = first.effects
    assert isinstance(effect, Defer)
    assert (offsets_of(effect.frame), effect.until_us) == ([1, 2, 3], T + 50_000)
    assert (first.left, first.num_waiting, first.tokens) == (None, 3, {"digits": FULL - 3})
    again = retried(effect.frame, first.tokens, T + 50_000, arrives=False)
    assert again.left is effect.frame
    assert (again.effects, again.tokens) == ((), first.tokens)


def test_rows_past_their_deadline_end_with_what_they_failed_with_and_pay_nothing() -> None:
    found = retried(back(late=(2,)), NO_RETRIES, T + 10, arrives=True)
    assert ended(found.effects) == {2: ("execution_failed", "no 2")}
    assert found.tokens == {"digits": FULL - 2}
    assert (found.num_ended, found.num_waiting) == (1, 2)


def test_rows_without_a_token_end_at_once() -> None:
    found = retried(back(), {"digits": 2.5}, T, arrives=True)
    assert ended(found.effects) == {3: ("execution_failed", "no 3")}
    assert found.tokens == {"digits": 0.5}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), st.integers(0, 14), st.booleans())
def test_every_row_goes_one_way(rows: list[tuple[bool, bool]], tokens: int, waits: bool) -> None:
    made = back(range(len(rows)), late=[at for at, (late, _) in enumerate(rows) if late])
    now_us = T + (20 if waits else 60_000)
    found = retried(made, {"digits": float(tokens)}, now_us, arrives=True)
    held = [each.frame for each in found.effects if isinstance(each, Defer)]
    gone = [] if found.left is None else [found.left]
    assert len(held) == (waits and bool(held))
    assert not (waits and gone)
    kept = [offset for each in (*held, *gone) for offset in offsets_of(each)]
    over = ended(found.effects)
    assert sorted([*kept, *over]) == list(range(len(rows)))
    assert len(kept) == min(tokens, sum(not late for late, _ in rows))
    assert found.tokens["digits"] == tokens - len(kept)


def test_a_frame_is_routed_again_as_planned_now_and_pinned_rows_keep_their_version() -> None:
    view = memory(MODEL, plan("digits", ("v2.0.0", 100)))
    for cohort, version in (("", "v2.0.0"), (PINNED, "v1.0.0")):
        made = back(cohort=cohort)
        event = Event(made, TICK, T + 50_000, answers=view)
        state, (effect,) = decide(RouterState(), event, PARAMS)
        assert isinstance(effect, SendFrame)
        assert effect.topic == "inference.routed"
        assert [segment.version for segment in effect.frame.segments] == [version]
        assert [segment.cohort for segment in effect.frame.segments] == [cohort]
        assert (effect.frame.attempt, effect.frame.errors) == (1, made.errors)  # what it may yet end with
        assert state.num_rows == 3


def test_another_lane_of_the_class_tries_again() -> None:
    view = memory(MODEL, plan("digits", ("v1.0.0", 100)))
    for num_lanes, num_slow in ((1, 0), (2, 0), (5, 2)):
        params = RouterParams(num_lanes=num_lanes, num_slow_lanes=num_slow)
        lanes = []
        for attempt in range(5):
            made = replace(back(), attempt=attempt) if attempt else frame([row(1)])
            _, (effect,) = decide(RouterState(), Event(made, TICK, T + 50_000, answers=view), params)
            lanes.append(effect.partition)
        fast = num_lanes - num_slow
        assert max(lanes) < fast
        assert (lanes[1] == lanes[0]) is (fast == 1)
        assert set(lanes[1:]) | {lanes[0]} == set(range(fast))
    fixed = replace(plan("digits", ("v1.0.0", 100)), lane=1)
    _, (effect,) = decide(RouterState(), Event(back(), TICK, T + 50_000, answers=memory(MODEL, fixed)), PARAMS)
    assert effect.partition == 1


def test_pinned_rows_are_marked_when_they_are_routed_first() -> None:
    made = frame([row(1, version="v9.0.0"), row(2)])
    _, (effect,) = decide(
        RouterState(), Event(made, THERE, T, answers=memory(MODEL, plan("digits", ("v1.0.0", 100)))), PARAMS
    )
    assert {segment.version: segment.cohort for segment in effect.frame.segments} == {"v9.0.0": PINNED, "v1.0.0": ""}
    segment = made.segments[0]
    assert (pinned_version(made, segment), failed_version(made, segment)) == ("v9.0.0", "")
    assert cohort_of(made, made.segments[1]) == ""


def test_first_tries_fill_what_retries_took() -> None:
    view = memory(MODEL, plan("digits", ("v1.0.0", 100)))
    state, _ = decide(RouterState(), Event(back(), THERE, T, answers=view), PARAMS)
    assert state.tokens == {"digits": FULL - 3}
    made = frame([row(offset) for offset in range(20)])
    state, _ = decide(state, Event(made, THERE, T, answers=view), PARAMS)
    assert state.tokens == {"digits": FULL - 1}
    assert first_tries(frame([row(1, model="other")]), state.tokens) is state.tokens


def test_what_waits_for_a_plan_counts_once() -> None:
    made = frame([row(offset) for offset in range(10)])
    state = RouterState(tokens={"digits": 1.0})
    state, _ = decide(state, Event(made, THERE, T, answers=memory(MODEL)), PARAMS)
    assert state.tokens == {"digits": 2.0}
    state, _ = decide(state, Event(made, TICK, T, answers=memory(MODEL)), PARAMS)
    assert state.tokens == {"digits": 2.0}


def test_rows_and_ids_stay_together_when_some_end() -> None:
    found = retried(back((5, 6, 7), late=(6,)), NO_RETRIES, T + 60_000, arrives=True)
    assert found.left is not None
    assert request_ids(found.left) == [b"r5", b"r7"]
    assert [(error.row, error.message) for error in found.left.errors] == [(0, "no 5"), (1, "no 7")]
    assert np.frombuffer(found.left.segments[0].inputs[0].data, "<f4")[::2].tolist() == [5.0, 7.0]
    assert num_rows(found.left) == 2
