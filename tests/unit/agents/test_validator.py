"""The gate and the ledger rule: one result per coordinate, and the reaper for what nobody answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.comparison import WAIT_US
from agents.validator import (
    CHECKPOINT_US,
    SCAN_LENGTH,
    SCAN_US,
    VALIDATOR,
    ValidatorParams,
    ValidatorState,
    decide,
    gate,
    signature_fault,
)
from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, TensorBlock
from schemas.ledger import LedgerCheckpoint
from schemas.model import TensorSpec
from schemas.shadow import AGREES, DIFFERS, UNKNOWN
from streams.agent import TICK, Effects, Event, Tick
from streams.columns import ERROR, EXPIRED, HEDGE, OK, SHADOW, Columns, num_rows
from streams.frame_effects import Answer, Confirmed, NoteShadows, Scanned, ScanRequests, WriteCheckpoint
from streams.memory_view import MemoryView
from streams.terminals import Terminals
from tests.support import cached
from tests.support.cached import POLICY
from tests.support.frames import MODEL, TOPIC_ID, T, executed, frame, memory, row
from tests.support.shadowed import SERVING, answered, copies, shadowed

PARAMS = ValidatorParams(give_up_us=130_000_000)
VIEW = memory(MODEL)
FRESH = ValidatorState(TOPIC_ID, 1, Terminals.starting_at(100), checkpoint_us=T, scan_us=T)


def step(
    state: ValidatorState, record: object, now_us: int = T, view: MemoryView | None = VIEW
) -> tuple[ValidatorState, Effects]:
    return decide(state, Event(record, RecordCoordinate("t", 1, 0), now_us, answers=view), PARAMS)


def test_what_passed_the_gate_is_cached() -> None:
    """Rows of a model that is cached, of which one is not finite and one was answered before."""
    view = memory(MODEL, POLICY, sequence=9)
    routed = frame([row(100), row(101), row(102)])
    made = replace(cached.executed(routed), input_digests=cached.digests_of(routed))
    broken = bytearray(made.segments[0].outputs[0].data)
    broken[12:16] = np.float32(np.nan).tobytes()
    block = replace(made.segments[0].outputs[0], data=bytes(broken))
    made = replace(made, segments=(replace(made.segments[0], outputs=(block,)),))
    state = replace(FRESH, terminals=FRESH.terminals.mark_pending(np.array([102])))
    _, (answer, fill) = step(state, made, view=view)
    assert Columns.of(answer.frame).statuses.tolist() == [OK, ERROR]
    assert [field[16:] for field, _ in fill.payloads] == [cached.digests_of(routed)[:16]]
    _, effects = step(FRESH, made)
    assert [type(effect) for effect in effects] == [Answer]


def confirmed(answer: Answer, end: int) -> Confirmed:
    offsets = Columns.of(answer.frame).offsets
    return Confirmed(offsets, end, len(offsets) if answer.reaped else 0)


def offsets_of(answer: Answer) -> list[int]:
    return Columns.of(answer.frame).offsets.tolist()


def test_a_frame_is_answered_once() -> None:
    made = executed(3)
    state, (answer,) = step(FRESH, made)
    assert answer == Answer(made, T)
    assert state.terminals.num_pending == 3
    assert step(state, made)[1] == ()  # pending: no second answer
    state, effects = step(state, confirmed(answer, 12))
    assert effects == ()
    assert (state.terminals.low_watermark, state.results_offset, state.num_reaped) == (103, 12, 0)
    assert step(state, made)[1] == ()  # set: no second answer


def test_only_open_rows_of_a_frame_are_answered() -> None:
    state, _ = step(FRESH, executed(2, first=101))
    _, (answer,) = step(state, executed(5))
    assert offsets_of(answer) == [100, 103, 104]


def test_a_coordinate_that_stands_twice_in_a_frame_is_answered_once() -> None:
    made = executed(4)
    twice = replace(made, offsets=np.array([100, 101, 101, 100], "<i8").tobytes())
    _, (answer,) = step(FRESH, twice)
    assert offsets_of(answer) == [100, 101]


def test_a_shadow_row_is_not_answered_and_hides_no_primary_row() -> None:
    made = replace(executed(3), offsets=np.array([100, 100, 101], "<i8").tobytes(), roles=bytes([SHADOW, 0, SHADOW]))
    state, (answer,) = step(FRESH, made)
    assert offsets_of(answer) == [100]
    assert state.terminals.num_pending == 1


def test_copies_of_a_shadow_are_gated_compared_and_never_answered() -> None:
    view = shadowed(100, sequence=40)
    outputs = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    wrong = [[0.0, 0.9, 0.0], [0.0, 1.0, 0.0], [np.nan, 0.0, 0.0]]
    state, effects = step(FRESH, copies(wrong), view=view)
    assert (effects, state.terminals.num_pending, state.terminals.low_watermark) == ((), 0, 100)
    state, (answer, noted) = step(state, answered(outputs), view=view)
    assert offsets_of(answer) == [100, 101, 102]
    assert {segment.version for segment in answer.frame.segments} == {SERVING}
    (said,) = noted.comparisons
    assert (list(said.statuses), list(said.agreements)) == ([OK, OK, ERROR], [AGREES, DIFFERS, UNKNOWN])
    assert step(state, copies(wrong), view=view)[1] == ()


def test_copies_that_stay_alone_are_noted_by_the_clock() -> None:
    view = shadowed(100, sequence=40)
    state, _ = step(FRESH, copies([[0.0, 1.0, 0.0]]), view=view)
    state, effects = step(state, Tick(), T + WAIT_US, view=view)
    (noted,) = [each for each in effects if isinstance(each, NoteShadows)]
    assert [list(each.primary_statuses) for each in noted.comparisons] == [[0]]
    assert not any(isinstance(each, NoteShadows) for each in step(state, Tick(), T + 2 * WAIT_US, view=view)[1])


@pytest.mark.parametrize("status", [ERROR, EXPIRED])
def test_a_hedge_that_did_not_end_well_leaves_its_request_open(status: int) -> None:
    state, effects = step(FRESH, replace(executed(2, status=status), roles=bytes([HEDGE] * 2)))
    assert effects == ()
    assert state.terminals.num_pending == 0
    _, (answer,) = step(state, executed(2))
    assert offsets_of(answer) == [100, 101]


def test_a_hedge_that_fails_the_gate_leaves_its_request_open_and_the_others_of_its_frame_count() -> None:
    made = replace(executed(3), roles=bytes([HEDGE] * 3))
    data = bytearray(made.segments[0].outputs[0].data)
    data[12:16] = np.float32(np.nan).tobytes()
    block = replace(made.segments[0].outputs[0], data=bytes(data))
    made = replace(made, segments=(replace(made.segments[0], outputs=(block,)),))
    state, (answer,) = step(FRESH, made)
    assert offsets_of(answer) == [100, 102]
    assert Columns.of(answer.frame).statuses.tolist() == [OK, OK]
    _, (late,) = step(state, executed(3, status=ERROR))
    assert offsets_of(late) == [101]


def test_the_first_of_row_and_hedge_counts_and_the_other_is_dropped() -> None:
    hedged = replace(executed(3), roles=bytes([HEDGE] * 3))
    state, (answer,) = step(FRESH, hedged)
    assert offsets_of(answer) == [100, 101, 102]
    assert step(state, executed(3, status=ERROR))[1] == ()
    state, _ = step(FRESH, executed(3, status=ERROR))
    assert step(state, hedged)[1] == ()


def test_gaps_become_terminal_even_when_no_row_is_open() -> None:
    state, (answer,) = step(FRESH, executed(1, first=102))
    state, _ = step(state, confirmed(answer, 1))
    assert state.terminals.low_watermark == 100
    again = replace(executed(1, first=102), gaps=np.array([2], "<i4").tobytes())
    state, effects = step(state, again)
    assert effects == ()
    assert state.terminals.low_watermark == 103


@pytest.mark.parametrize("change", [{"topic_id": bytes(16)}, {"partition": 0}])
def test_frames_of_another_log_are_ignored(change: dict[str, object]) -> None:
    assert step(FRESH, replace(executed(2), **change)) == (FRESH, ())  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.booleans()), max_size=15))
def test_no_coordinate_is_ever_answered_twice(steps: list[tuple[int, int, bool]]) -> None:
    state, answered, waiting, end = FRESH, [], [], 0
    for first, rows, confirm in steps:
        state, effects = step(state, executed(rows, first=100 + first))
        waiting += effects
        answered += [offset for effect in effects for offset in offsets_of(effect)]
        if confirm and waiting:
            end += num_rows(waiting[0].frame)
            state, _ = step(state, confirmed(waiting.pop(0), end))
    wanted = {100 + first + at for first, rows, _ in steps for at in range(rows)}
    assert sorted(answered) == sorted(wanted)


def codes(given_frame: InferenceFrame) -> list[tuple[int, str]]:
    return [(error.row, error.code) for error in given_frame.errors]


def test_the_gate_passes_what_fits() -> None:
    made = executed(3, items=2)
    assert gate(made, VIEW) is made


def test_a_row_with_nan_fails_alone() -> None:
    values = np.full((6, 3), 0.5, "<f4")
    values[3, 1] = np.nan
    made = executed(3, items=2)
    block = replace(made.segments[0].outputs[0], data=values.tobytes())
    gated = gate(replace(made, segments=(replace(made.segments[0], outputs=(block,)),)), VIEW)
    assert gated.statuses == bytes([OK, ERROR, OK])
    assert codes(gated) == [(1, "output_invalid")]


def test_nan_passes_where_the_manifest_allows_it() -> None:
    loose = replace(MODEL, outputs=(TensorSpec("y", "FP32", (3,), allow_nan=True),))
    made = executed(2, values=float("inf"))
    assert gate(made, memory(loose)) is made
    assert gate(made, VIEW).statuses == bytes([ERROR, ERROR])
    assert gate(made, memory()).statuses == bytes([ERROR, ERROR])  # a version that memory does not know


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (TensorBlock("z", "FP32", (3,), bytes(12)),),
        (TensorBlock("y", "FP64", (3,), bytes(24)),),
        (TensorBlock("y", "FP32", (4,), bytes(16)),),
        (TensorBlock("y", "FP32", (3, 1), bytes(12)),),
    ],
)
def test_outputs_that_are_not_the_signatures(outputs: tuple[TensorBlock, ...]) -> None:
    made = executed(1)
    segment = replace(made.segments[0], outputs=outputs)
    assert signature_fault(segment, MODEL)
    gated = gate(replace(made, segments=(segment,)), VIEW)
    assert (gated.statuses, codes(gated)) == (bytes([ERROR]), [(0, "output_invalid")])
    assert gated.errors[0].message == signature_fault(segment, MODEL)


def test_a_free_axis_fits_any_length() -> None:
    assert signature_fault(executed(1).segments[0], replace(MODEL, outputs=(TensorSpec("y", "FP32", (-1,)),))) == ""


def test_a_row_that_was_not_executed_is_an_error() -> None:
    gated = gate(frame([row(1), row(2, model="other")]), memory())
    assert gated.statuses == bytes([ERROR, ERROR])
    assert codes(gated) == [(0, "internal"), (1, "internal")]


def test_ended_rows_pass_the_gate_unchanged() -> None:
    made = executed(2, status=EXPIRED)
    assert gate(made, VIEW) is made


def test_checkpoints_hold_set_bits_only_and_come_once_a_second() -> None:
    state, (answer,) = step(FRESH, executed(2))
    state, _ = step(state, executed(1, first=105))
    state, _ = step(state, confirmed(answer, 7))
    assert step(state, Tick(), T + CHECKPOINT_US - 1)[1] == ()
    now = T + CHECKPOINT_US
    state, (write,) = step(state, Tick(), now)
    assert write == WriteCheckpoint(LedgerCheckpoint(TOPIC_ID, 1, 102, b"", 7, 0, now))
    assert step(state, Tick(), now + CHECKPOINT_US)[1] == ()  # nothing is new
    state, (second,) = step(state, executed(1, first=110), now)
    state, _ = step(state, confirmed(second, 8))
    state, (write,) = step(state, Tick(), now + 2 * CHECKPOINT_US)
    assert Terminals.from_bits(write.checkpoint.low_watermark, write.checkpoint.bits).open_below(112).tolist() == [
        *range(102, 110),
        111,
    ]


def test_a_scan_begins_only_where_the_watermark_stands_still() -> None:
    state, effects = step(FRESH, Tick(), T + SCAN_US)
    assert [each for each in effects if isinstance(each, ScanRequests)] == []
    state, effects = step(state, Tick(), T + 2 * SCAN_US)
    assert effects == (ScanRequests(100, 100 + SCAN_LENGTH, T + 2 * SCAN_US - PARAMS.give_up_us),)
    assert step(state, Tick(), T + 3 * SCAN_US)[1] == ()  # one at a time
    state, _ = step(state, Scanned(100, 100, np.array([], np.int64), None))
    assert state.scanning is False


def scanned(*offsets: int, first: int = 100, end: int = 110) -> Scanned:
    made = frame([row(offset, items=0) for offset in offsets]) if offsets else None
    return Scanned(first, end, np.array(offsets, np.int64), made)


def test_the_reaper_ends_what_nobody_answered() -> None:
    state, (answer,) = step(FRESH, executed(1, first=104))
    state, _ = step(state, confirmed(answer, 3))
    state, effects = step(replace(state, scanning=True), scanned(100, 101, 104, 108), T + 9)
    assert [(offsets_of(each), each.reaped, codes(each.frame), each.frame.statuses) for each in effects] == [
        ([100, 101], True, [(0, "lost"), (1, "lost")], bytes([ERROR, ERROR])),
        ([108], True, [(0, "deadline_exceeded")], bytes([EXPIRED])),
    ]
    end = 3
    for each in effects:
        end += num_rows(each.frame)
        state, _ = step(state, confirmed(each, end))
    assert (state.terminals.low_watermark, state.num_reaped, state.results_offset) == (110, 3, 6)
    assert step(state, executed(2))[1] == ()  # the lost rows turn up after all: no second answer


def test_a_scan_that_sees_no_request_marks_gaps_but_not_what_is_under_way() -> None:
    state, (answer,) = step(FRESH, executed(1, first=103))
    state, effects = step(state, scanned())
    assert effects == ()
    assert state.terminals.open_below(111).tolist() == [103, 110]
    state, _ = step(state, confirmed(answer, 1))
    assert state.terminals.low_watermark == 110


def test_a_row_under_way_is_not_reaped() -> None:
    state, _ = step(FRESH, executed(2))
    state, effects = step(state, scanned(100, 101, end=102))
    assert effects == ()
    assert state.terminals.num_pending == 2


def test_strangers_are_refused() -> None:
    with pytest.raises(TypeError, match="str"):
        step(FRESH, "frame")
    assert VALIDATOR.emits == ("inference.results", "inference.ledger-checkpoints", "inference.shadow")
    assert VALIDATOR.tick_ms == 1000
    assert TICK.offset == -1
