"""Routing is a function of frame and memory, and loses or doubles no row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.hedge import NEVER, TICK_US
from agents.route import home_lane, version_for
from agents.router import ROUTER, RouterParams, RouterState, decide, hedging_due, lookups
from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, RowError
from streams.agent import TICK, Effects, Event, Tick
from streams.cache.lookup import LookedUp
from streams.columns import ERROR, EXPIRED, HEDGE, OK, PENDING, SHADOW, Columns, request_ids, segment_starts
from streams.frame_codec import decode_frame, encode_frame
from streams.frame_effects import Answered, Confirmed, Defer, Followed, MemorySilent, NoteDecision, SendFrame
from streams.memory_view import MemoryView, cache_scope
from streams.splice import wire_of
from tests.support.cached import POLICY, digests_of, entry, known
from tests.support.frames import MODEL, T, frame, memory, plan, random_frame, row, with_blob
from tests.support.shadowed import SERVING, SHADOWING, shadowed

PARAMS = RouterParams(num_lanes=4, hold_us=2_000_000)
PLANNED = memory(plan("digits", ("v1.0.0", 100), lane=1), plan("other", ("v3.0.0", 100), lane=2), sequence=41)


def route(given_frame: InferenceFrame, view: MemoryView = PLANNED, now_us: int = T + 5) -> tuple[RouterState, Effects]:
    event = Event(given_frame, RecordCoordinate("t", 1, 0), now_us, answers=view)
    return decide(RouterState(), event, PARAMS)


def rows_of(given_frame: InferenceFrame) -> list[tuple[int, str, str]]:
    """Offset, model and version of each row."""
    starts, offsets = segment_starts(given_frame), Columns.of(given_frame).offsets.tolist()
    return [
        (offsets[at], segment.model, segment.version)
        for number, segment in enumerate(given_frame.segments)
        for at in range(starts[number], starts[number + 1])
    ]


def test_one_frame_per_lane_with_version_sequence_and_time() -> None:
    made = frame([row(1), row(2, model="other"), row(3)])
    state, effects = route(made)
    assert state == RouterState(num_rows=3)
    assert [(each.topic, each.partition) for each in effects] == [("inference.routed", 1), ("inference.routed", 2)]
    assert [rows_of(each.frame) for each in effects] == [
        [(1, "digits", "v1.0.0"), (3, "digits", "v1.0.0")],
        [(2, "other", "v3.0.0")],
    ]
    assert {(each.frame.memory_sequence, each.frame.routed_us, each.frame.partition) for each in effects} == {
        (41, T + 5, 1)
    }


def test_the_same_frame_and_memory_give_the_same_effects() -> None:
    made = random_frame(5)
    assert route(made) == route(made)


def test_a_pinned_version_wins_over_the_plan() -> None:
    _, effects = route(frame([row(1, version="v9.0.0"), row(2)]))
    assert sorted(each for effect in effects for each in rows_of(effect.frame)) == [
        (1, "digits", "v9.0.0"),
        (2, "digits", "v1.0.0"),
    ]


def test_weights_are_kept() -> None:
    shared = plan("digits", ("v1.0.0", 70), ("v2.0.0", 30))
    picks = Counter(version_for(shared, f"key-{number}".encode()) for number in range(20_000))
    assert picks["v1.0.0"] / 20_000 == pytest.approx(0.7, abs=0.02)
    assert set(picks) == {"v1.0.0", "v2.0.0"}


def test_weight_zero_gets_nothing_and_a_sum_below_100_goes_to_the_last() -> None:
    keys = [f"key-{number}".encode() for number in range(500)]
    assert {version_for(plan("digits", ("v1.0.0", 0), ("v2.0.0", 100)), key) for key in keys} == {"v2.0.0"}
    assert {version_for(plan("digits", ("v1.0.0", 0), ("v2.0.0", 10)), key) for key in keys} == {"v2.0.0"}


def test_a_routing_key_sticks_to_its_version_and_a_row_without_key_goes_by_its_id() -> None:
    shared = plan("digits", ("v1.0.0", 50), ("v2.0.0", 50), lane=0)
    _, effects = route(frame([row(n, routing_key="user-7") for n in range(20)]), memory(shared))
    assert {version for effect in effects for _, _, version in rows_of(effect.frame)} == {
        version_for(shared, b"user-7")
    }
    _, effects = route(frame([row(n) for n in range(20)]), memory(shared))
    found = {offset: version for effect in effects for offset, _, version in rows_of(effect.frame)}
    assert found == {n: version_for(shared, f"r{n}".encode()) for n in range(20)}
    assert len(set(found.values())) == 2


def test_each_row_keeps_its_tensor_when_a_segment_is_cut_by_version() -> None:
    _, effects = route(
        frame([row(n, items=2) for n in range(9)]), memory(plan("digits", ("v1.0.0", 50), ("v2.0.0", 50)))
    )
    for effect in effects:
        values = [np.frombuffer(segment.inputs[0].data, "<f4")[::4].tolist() for segment in effect.frame.segments]
        assert [offset for offset, _, _ in rows_of(effect.frame)] == [int(v) for part in values for v in part]


def test_a_segment_is_split_into_one_per_version_however_its_rows_alternate() -> None:
    shared = plan("digits", ("v1.0.0", 50), ("v2.0.0", 50), lane=0)
    _, (sent,) = route(frame([row(n) for n in range(64)]), memory(shared))
    assert sorted(segment.version for segment in sent.frame.segments) == ["v1.0.0", "v2.0.0"]
    found = {offset: version for offset, _, version in rows_of(sent.frame)}
    assert found == {n: version_for(shared, f"r{n}".encode()) for n in range(64)}
    for segment, start in zip(sent.frame.segments, segment_starts(sent.frame), strict=False):
        offsets = Columns.of(sent.frame).offsets[start : start + segment.num_rows].tolist()
        assert offsets == sorted(offsets)  # each version's rows in the order that they came in
        assert np.frombuffer(segment.inputs[0].data, "<f4")[::2].tolist() == offsets


@pytest.mark.parametrize("lanes", [("1", "1"), ("1", "2")])
def test_what_is_not_changed_is_written_as_it_was_read(lanes: tuple[str, str]) -> None:
    view = memory(
        *(plan(name, ("v1.0.0", 100), lane=int(at)) for name, at in zip(("digits", "other"), lanes, strict=True))
    )
    made = frame([row(1), row(2, model="other"), row(3, routing_key="k")])
    _, effects = route(decode_frame(encode_frame(made), 0), view)
    assert [wire_of(effect.frame) is not None for effect in effects] == [True] if lanes == ("1", "1") else [False] * 2
    _, anew = route(made, view)
    assert effects == anew
    for effect, other in zip(effects, anew, strict=True):
        assert all(wire_of(segment) is not None for segment in effect.frame.segments)
        assert encode_frame(effect.frame) == encode_frame(other.frame)


def test_a_blob_goes_with_its_row() -> None:
    rows = [with_blob(row(n, items=n + 1)) for n in range(6)]
    _, effects = route(frame(rows), memory(plan("digits", ("v1.0.0", 50), ("v2.0.0", 50))))
    found = [
        (offset, segment.blob)
        for effect in effects
        for (offset, _, _), segment in zip(rows_of(effect.frame), effect.frame.segments, strict=True)
    ]
    assert sorted(found, key=lambda pair: pair[0]) == [(n, rows[n].blob) for n in range(6)]


def test_lanes() -> None:
    assert home_lane(plan("digits", ("v1.0.0", 100), lane=6), 4) == 2
    automatic = [home_lane(plan(f"model-{n}", ("v1.0.0", 100)), 4) for n in range(200)]
    assert set(automatic) == {0, 1, 2, 3}
    assert automatic == [home_lane(plan(f"model-{n}", ("v1.0.0", 100)), 4) for n in range(200)]


def test_a_row_without_a_plan_waits_and_the_others_go_on() -> None:
    made = frame([row(1), row(2, model="newcomer"), row(3)])
    state, (deferred, sent) = route(made)
    assert state == RouterState(num_rows=2, num_deferred=1)
    assert isinstance(deferred, Defer)
    assert rows_of(deferred.frame) == [(2, "newcomer", "")]
    assert deferred.until_us == T + 1_000_000  # the deadline comes before the end of the hold
    assert rows_of(sent.frame) == [(1, "digits", "v1.0.0"), (3, "digits", "v1.0.0")]


def test_the_hold_ends_after_two_seconds_with_no_plan() -> None:
    made = frame([row(2, model="newcomer", deadline_us=T + 60_000_000)])
    _, (deferred,) = route(made, now_us=T + 1_999_999)
    assert deferred.until_us == T + 2_000_000
    state, (ended,) = route(deferred.frame, now_us=T + 2_000_000)
    assert state == RouterState(num_ended=1)
    assert (ended.topic, ended.partition) == ("inference.executed", 1)
    assert [(each.row, each.code) for each in ended.frame.errors] == [(0, "no_plan")]
    assert ended.frame.statuses == bytes([ERROR])


def test_a_deferred_frame_is_routed_once_memory_has_the_plan() -> None:
    _, (deferred,) = route(frame([row(2, model="newcomer")]))
    _, (sent,) = route(deferred.frame, memory(plan("newcomer", ("v1.0.0", 100), lane=3), sequence=50))
    assert (sent.topic, sent.partition, sent.frame.memory_sequence) == ("inference.routed", 3, 50)
    assert rows_of(sent.frame) == [(2, "newcomer", "v1.0.0")]


def test_a_late_row_expires_also_without_a_plan() -> None:
    made = frame([row(1, deadline_us=T), row(2, deadline_us=T + 6), row(3, model="newcomer", deadline_us=T)])
    state, (ended, sent) = route(made)
    assert state == RouterState(num_rows=1, num_ended=2)
    assert Columns.of(ended.frame).offsets.tolist() == [1, 3]
    assert ended.frame.statuses == bytes([EXPIRED, EXPIRED])
    assert {each.code for each in ended.frame.errors} == {"deadline_exceeded"}
    assert Columns.of(sent.frame).offsets.tolist() == [2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 15), st.integers(0, 3_000_000), st.booleans())
def test_every_row_appears_exactly_once_in_the_effects(seed: int, size: int, later: int, planned: bool) -> None:
    made = replace(random_frame(seed, size), statuses=bytes(size), errors=())
    deadlines = T + (np.arange(size) % 3) * 1_500_000
    made = replace(made, deadlines_us=deadlines.astype("<i8").tobytes())
    view = memory(
        plan("digits", ("v1.0.0", 40), ("v2.0.0", 60)), *([plan("mlp-a", ("v1.0.0", 100))] if planned else [])
    )
    state, effects = route(made, view, T + later)
    found = Counter(
        (request_id, *each)
        for effect in effects
        for request_id, each in zip(request_ids(effect.frame), Columns.of(effect.frame).offsets.tolist(), strict=True)
        for each in [(each,)]
    )
    assert found == Counter(
        (request_id, offset)
        for request_id, offset in zip(request_ids(made), Columns.of(made).offsets.tolist(), strict=True)
    )
    assert state.num_rows + state.num_deferred + state.num_ended == size
    for effect in effects:
        statuses = set(effect.frame.statuses)
        if isinstance(effect, SendFrame) and effect.topic == "inference.executed":
            assert statuses <= {ERROR, EXPIRED}
            assert len(effect.frame.errors) == len(effect.frame.statuses)
        else:
            assert statuses == {PENDING}


def test_ticks_do_nothing_and_strangers_are_refused() -> None:
    assert decide(RouterState(), Event(Tick(), RecordCoordinate("", -1, -1), T), PARAMS) == (RouterState(), ())
    with pytest.raises(TypeError, match="Confirmed"):
        decide(RouterState(), Event(Confirmed(np.array([1]), 1), RecordCoordinate("", -1, -1), T), PARAMS)


def test_the_declaration() -> None:
    assert ROUTER.emits == ("inference.routed", "inference.executed", "inference.decisions")
    assert ROUTER.initial(ROUTER.params) == RouterState()


CACHED = memory(
    MODEL, replace(MODEL, version="v2.0.0"), replace(MODEL, model="other"), plan("digits", ("v1.0.0", 100), lane=1),
    plan("other", ("v1.0.0", 100), lane=2), POLICY, sequence=41,
)  # fmt: skip


def route_cached(given_frame: InferenceFrame, looked: LookedUp, now_us: int = T + 5) -> tuple[RouterState, Effects]:
    event = Event(given_frame, RecordCoordinate("t", 1, 0), now_us, answers=CACHED, looked_up=looked)
    return decide(RouterState(), event, PARAMS)


def test_nothing_is_asked_where_no_model_is_cached() -> None:
    assert lookups(frame([row(1), row(2)]), PLANNED, PARAMS) is None
    assert lookups(frame([row(1, model="other")]), CACHED, PARAMS) is None
    assert lookups(frame([row(1, model="nobody")]), CACHED, PARAMS) is None
    disabled = memory(MODEL, plan("digits", ("v1.0.0", 100)), replace(POLICY, enabled=False))
    assert lookups(frame([row(1)]), disabled, PARAMS) is None
    draws = memory(replace(MODEL, deterministic=False), plan("digits", ("v1.0.0", 100)), POLICY)
    assert lookups(frame([row(1)]), draws, PARAMS) is None
    behind = replace(frame([row(1)]), memory_sequence=CACHED.sequence + 1)
    assert lookups(behind, CACHED, PARAMS) is None  # it may be of an ordered model by now
    assert lookups(replace(behind, memory_sequence=CACHED.sequence), CACHED, PARAMS) is not None


def test_rows_of_cached_models_are_asked_by_the_version_that_would_serve_them() -> None:
    made = frame([row(1), row(2, model="other"), row(3), row(4, version="v2.0.0"), row(5, version="v9.0.0")])
    looked = lookups(made, CACHED, PARAMS)
    assert looked is not None
    assert [(each.segment, each.model, each.version, each.rows) for each in looked.asked] == [
        (0, "digits", "v1.0.0", (0, 1)),
        (2, "digits", "v2.0.0", (0,)),
    ]
    scope = cache_scope(CACHED, "digits", "v1.0.0")
    assert scope is not None
    digests = digests_of(made)
    assert looked.asked[0].fields == (scope.scope + digests[:16], scope.scope + digests[16:32])
    assert looked.asked[0].ttl_us == 60_000_000
    at = {offset: place for place, offset in enumerate(Columns.of(made).offsets.tolist())}
    noted = {offset: looked.digests[16 * place : 16 * place + 16] for offset, place in at.items()}
    assert noted[2] == noted[5] == bytes(16)
    assert all(noted[offset] == digests[16 * at[offset] : 16 * at[offset] + 16] for offset in (1, 3, 4))


def test_by_weights_each_row_is_asked_by_its_own_version() -> None:
    view = memory(MODEL, replace(MODEL, version="v2.0.0"), plan("digits", ("v1.0.0", 50), ("v2.0.0", 50)), POLICY)
    made = frame([row(at) for at in range(40)])
    looked = lookups(made, view, PARAMS)
    assert looked is not None
    asked = {offset: each.version for each in looked.asked for offset in each.rows}
    _, effects = decide(RouterState(), Event(made, RecordCoordinate("t", 1, 0), T, answers=view), PARAMS)
    assert {offset: version for effect in effects for offset, _, version in rows_of(effect.frame)} == asked
    assert set(asked.values()) == {"v1.0.0", "v2.0.0"}


def test_hits_end_here_and_the_others_go_on_with_their_digests() -> None:
    made = frame([row(1), row(2), row(3, model="other"), row(4)])
    looked = lookups(made, CACHED, PARAMS)
    assert looked is not None
    hit = looked.asked[0].fields[1]
    state, effects = route_cached(made, known(looked, {hit: entry(2.0)}))
    assert state == RouterState(num_rows=3, num_cached=1)
    assert [(each.topic, each.partition) for each in effects] == [
        ("inference.executed", 1),
        ("inference.routed", 1),
        ("inference.routed", 2),
    ]
    cached, digits, other = (each.frame for each in effects)
    assert rows_of(cached) == [(2, "digits", "v1.0.0")]
    assert cached.segments[0].cached
    assert rows_of(digits) == [(1, "digits", "v1.0.0"), (4, "digits", "v1.0.0")]
    digests = digests_of(made)
    assert digits.input_digests == digests[:16] + digests[32:48]
    assert other.input_digests == bytes(16)


def test_everything_may_be_answered_by_the_cache() -> None:
    made = frame([row(1), row(2)])
    looked = lookups(made, CACHED, PARAMS)
    assert looked is not None
    answers = dict.fromkeys(looked.asked[0].fields, entry())
    state, (effect,) = route_cached(made, known(looked, answers))
    assert (state, effect.topic) == (RouterState(num_cached=2), "inference.executed")


def test_a_late_row_expires_although_its_answer_is_known() -> None:
    made = frame([row(1), row(2, deadline_us=T)])
    looked = lookups(made, CACHED, PARAMS)
    assert looked is not None
    answers = dict.fromkeys(looked.asked[0].fields, entry())
    state, effects = route_cached(made, known(looked, answers))
    assert state == RouterState(num_ended=1, num_cached=1)
    assert [Columns.of(each.frame).statuses.tolist() for each in effects] == [[OK], [EXPIRED]]


def test_with_nothing_in_the_cache_every_row_goes_where_it_went() -> None:
    made = frame([row(at) for at in range(5)])
    _, effects = route_cached(made, known(lookups(made, CACHED, PARAMS), {}))
    _, plain = decide(RouterState(), Event(made, RecordCoordinate("t", 1, 0), T + 5, answers=CACHED), PARAMS)
    assert [replace(each.frame, input_digests=None) for each in effects] == [each.frame for each in plain]


def test_rows_of_hedged_models_are_watched_and_copied_and_the_others_leave_no_state() -> None:
    hedged = memory(MODEL, replace(plan("digits", ("v1.0.0", 100), lane=0), hedge=True))
    params = RouterParams(num_lanes=2)
    state, _ = decide(RouterState(), Event(Followed(on=True), TICK, T, answers=hedged), params)
    assert decide(state, Event(frame([row(1)]), TICK, T, answers=PLANNED), params)[0].hedging is state.hedging
    now_us = T
    for first in (0, 200):
        made = frame([row(at, deadline_us=T + 9_000_000) for at in range(first, first + 200)])
        state, _ = decide(state, Event(made, RecordCoordinate("t", 1, 0), now_us, answers=hedged), params)
        assert hedging_due(state) == T + TICK_US
        now_us += 300_000
        if first == 0:
            heard = Answered(np.arange(200), np.full(200, OK), np.zeros(200), "executor-0")
            state, _ = decide(state, Event(heard, TICK, now_us, answers=hedged), params)
    late = Event(Tick(), TICK, now_us + 500_000, answers=hedged)
    silent, none = decide(replace(state, is_silent=True), late, params)
    assert (none, hedging_due(silent)) == ((), now_us + 500_000 + TICK_US)
    state, (copy,) = decide(replace(silent, is_silent=False), late, params)
    assert (copy.topic, copy.partition, set(copy.frame.roles)) == ("inference.routed", 1, {HEDGE})
    assert rows_of(copy.frame) == [(at, "digits", "v1.0.0") for at in range(200, 220)]
    assert hedging_due(state) == now_us + 500_000 + TICK_US


def test_while_memory_is_silent_no_row_is_routed_and_none_of_it_is_noted() -> None:
    """Not first tries, second ones (they end as they failed), nor rows that wait for a plan, until memory is heard."""
    params = RouterParams(num_lanes=4, sample_every=1)

    def given(record: object, state: RouterState, offset: int = 0) -> tuple[RouterState, Effects]:
        return decide(state, Event(record, RecordCoordinate("t", 1, offset), T + 5, answers=PLANNED), params)

    state, effects = given(MemorySilent(on=True), RouterState(num_rows=7))
    assert effects == ()
    lost = tuple([RowError(at, "execution_failed", "it broke", 0) for at in range(2)])
    again = replace(frame([row(3), row(4)]), attempt=1, errors=lost)
    for made, code in ((frame([row(1), row(2, model="unplanned")]), "memory_silent"), (again, "execution_failed")):
        state, (ended,) = given(made, state, offset=made.attempt * -1)
        assert (ended.topic, ended.partition, {each.code for each in ended.frame.errors}) == (
            *("inference.executed", 1, {code}),
        )
        assert ended.frame.attempt == 0
    assert (state.num_rows, state.num_ended) == (7, 4)
    state, _ = given(MemorySilent(on=False), state)
    state, effects = given(frame([row(5)]), state)
    assert [each.topic for each in effects if isinstance(each, SendFrame)] == ["inference.routed"]
    assert len(effects) == 2  # and the note of that decision


def test_without_hedging_ticks_and_answers_change_nothing() -> None:
    heard = Answered(np.arange(3), np.full(3, OK), np.zeros(3), "executor-0")
    for event in (Tick(), heard):
        assert decide(RouterState(), Event(event, TICK, T, answers=PLANNED), PARAMS) == (RouterState(), ())
    assert hedging_due(RouterState()) == NEVER


def test_copies_for_a_shadow_leave_beside_the_decision_and_end_with_what_is_heard() -> None:
    view = shadowed(100)
    made = frame([row(1), row(2)])
    state, effects = route(made, view)
    sent, copy = effects
    assert rows_of(sent.frame) == [(1, "digits", SERVING), (2, "digits", SERVING)]
    assert rows_of(copy.frame) == [(1, "digits", SHADOWING), (2, "digits", SHADOWING)]
    assert set(copy.frame.roles) == {SHADOW}
    assert (state.num_rows, state.copies is not None) == (2, True)
    plain, without = route(made, shadowed(100, version=SERVING))
    assert (without, plain.copies) == ((sent,), None)
    news = Answered(np.array([1, 2]), np.array([OK, ERROR], "|u1"), np.array([SHADOW] * 2, "|u1"), "executor-0")
    state, none = decide(state, Event(news, TICK, T, answers=view), PARAMS)
    assert none == ()
    assert state.copies is not None
    assert len(state.copies.offsets) == 0


def test_a_decision_is_noted_without_the_copies() -> None:
    made = frame([row(1), row(2)])
    params = replace(PARAMS, sample_every=1)
    notes = []
    for view in (shadowed(100), shadowed(100, version=SERVING)):
        event = Event(made, RecordCoordinate("t", 1, 0), T + 5, answers=view)
        _, effects = decide(RouterState(), event, params)
        (noted,) = [each for each in effects if isinstance(each, NoteDecision)]
        notes.append(noted.outcome)
    assert notes[0] == notes[1]


def test_a_retry_is_not_copied() -> None:
    segment = replace(frame([row(1)]).segments[0], version=SERVING)
    again = replace(frame([row(1)]), attempt=1, segments=(segment,), errors=(RowError(0, "internal", "no memory"),))
    _, effects = route(again, shadowed(100))
    assert all(SHADOW not in each.frame.roles for each in effects if isinstance(each, SendFrame))
