"""Routes by memory: where breakers are open or rows failed before, every row has one place or none."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.breaker import is_probe
from agents.retry import PINNED
from agents.route import Route, cuts_of, home_lane, refused_rows, routes_of
from agents.router import RouterParams, RouterState, decide
from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, RowError
from schemas.memory import MemoryEntry
from schemas.plan import SLOW
from schemas.scaling import Replicas
from schemas.serving import Breaker
from streams.agent import Effects, Event
from streams.canonical import to_json
from streams.columns import ERROR, Columns, request_ids, segment_starts
from streams.memory_view import MemoryView
from streams.splice import served_by
from tests.support.frames import T, frame, memory, plan, row

SECOND = 1_000_000
PARAMS = RouterParams(num_lanes=4)
PLAN = replace(plan("digits", ("v2.0.0", 100), lane=1), fallbacks=("v1.0.0",))
ALONE = plan("digits", ("v2.0.0", 100), lane=1)


def breaker(version: str = "v2.0.0", state: str = "open") -> Breaker:
    return Breaker("digits", version, state, "20 of 20 rows failed", T - SECOND, 15 * SECOND)  # type: ignore[arg-type]


def with_breakers(view: MemoryView, *found: Breaker) -> MemoryView:
    entries = dict(view.entries)
    for number, each in enumerate(found, start=100):
        key = f"breaker/{each.model}/{each.version}"
        entries[key] = MemoryEntry(key, 1, number, to_json(each), T)
    return replace(view, entries=MappingProxyType(entries))


def routed(given_frame: InferenceFrame, view: MemoryView, now_us: int = T + 5) -> Effects:
    event = Event(given_frame, RecordCoordinate("t", 1, 0), now_us, answers=view)
    return decide(RouterState(), event, PARAMS)[1]


def versions(effects: Effects) -> dict[int, str]:
    """Version by offset of the rows that go on."""
    found: dict[int, str] = {}
    for sent in effects:
        if sent.topic == "inference.routed":
            offsets, starts = Columns.of(sent.frame).offsets.tolist(), segment_starts(sent.frame)
            for number, segment in enumerate(sent.frame.segments):
                found |= dict.fromkeys(offsets[starts[number] : starts[number + 1]], segment.version)
    return found


def errors(effects: Effects) -> list[RowError]:
    return [error for sent in effects if sent.topic == "inference.executed" for error in sent.frame.errors]


def again(given_frame: InferenceFrame, version: str, cohort: str = "") -> InferenceFrame:
    """The frame as it comes back from retries: its rows failed on ``version``."""
    segments = tuple(served_by(segment, version, cohort) for segment in given_frame.segments)
    known = tuple(RowError(at, "execution_failed", "the session failed", 0) for at in range(len(given_frame.roles)))
    return replace(given_frame, segments=segments, attempt=1, errors=known)


def test_routes_are_made_once_per_memory() -> None:
    made, view = frame([row(1), row(2, model="other")]), memory(PLAN)
    first, second = routes_of(made, view, 4, 0), routes_of(made, view, 4, 0)
    assert first[0] == Route(1, "v2.0.0", PLAN, {})
    assert first[1] is None
    assert first[0] is second[0]
    assert cuts_of(made, 0, 0, first[0], []) == routes_and_cuts(made, view)


def routes_and_cuts(made: InferenceFrame, view: MemoryView) -> object:
    (route, _) = routes_of(made, view, 4, 0)
    assert route is not None
    return cuts_of(made, 0, 0, route, [])


def lanes(effects: Effects) -> set[int]:
    return {sent.partition for sent in effects if sent.topic == "inference.routed"}


def test_frames_take_turns_among_the_lanes_of_ready_executors_and_rows_of_one_stay_together() -> None:
    effective = plan("digits", ("v1.0.0", 100))
    made = [replace(frame([row(n), row(n + 1)]), frame_id=n) for n in range(20)]
    for ready, expected in ((0, 1), (1, 1), (2, 2), (3, 3), (9, 4)):
        view = memory(effective, Replicas("executors", ready, ""))
        used = [lanes(routed(each, view)) for each in made]
        assert all(len(each) == 1 for each in used)
        assert set.union(*used) == set(range(expected))
    assert {lane for each in made for lane in lanes(routed(each, memory(effective)))} == {home_lane(effective, 4)}


def test_slow_models_use_as_many_slow_lanes_as_slow_executors_are_ready() -> None:
    slow = replace(plan("digits", ("v1.0.0", 100)), lane=SLOW)
    made = frame([row(1)])
    for ready, expected in ((1, {3}), (2, {3, 4}), (9, {3, 4, 5})):
        view = memory(slow, Replicas("executors", 2, ""), Replicas("executors-slow", ready, ""))
        found = [routes_of(replace(made, frame_id=number), view, 6, 3)[0] for number in range(20)]
        assert {each.lane for each in found if each is not None} == expected
    (alone,) = routes_of(made, memory(slow, Replicas("executors", 2, "")), 6, 3)
    assert alone is not None
    assert alone.lane == home_lane(slow, 6, 3), "nobody said how many slow ones are ready"


def test_a_retry_goes_to_another_lane_that_is_in_use() -> None:
    view = memory(plan("digits", ("v1.0.0", 100)), Replicas("executors", 2, ""))
    for number in range(8):
        made = replace(frame([row(1)]), frame_id=number)
        (first,) = lanes(routed(made, view))
        assert lanes(routed(again(made, "v1.0.0"), view)) == {0, 1} - {first}


def test_rows_of_an_open_breaker_go_to_the_fallback_and_back_when_it_closes() -> None:
    made = frame([row(n) for n in range(8)])
    assert set(versions(routed(made, with_breakers(memory(PLAN), breaker()))).values()) == {"v1.0.0"}
    assert set(versions(routed(made, memory(PLAN))).values()) == {"v2.0.0"}


def test_without_another_version_they_end_at_once_and_are_told_when_to_come_again() -> None:
    made = frame([row(1), row(2, model="other"), row(3)])
    view = with_breakers(memory(ALONE, plan("other", ("v3.0.0", 100))), breaker())
    effects = routed(made, view)
    assert versions(effects) == {2: "v3.0.0"}
    sentence = "version v2.0.0 failed most of its rows lately, and no other version may serve in its stead"
    assert errors(effects) == [RowError(at, "circuit_open", sentence, 14_000) for at in (0, 1)]
    (ended,) = (sent.frame for sent in effects if sent.topic == "inference.executed")
    assert (Columns.of(ended).offsets.tolist(), set(ended.statuses)) == ([1, 3], {ERROR})
    assert (ended.routed_us, ended.attempt) == (T + 5, 0)


def test_a_half_open_breaker_gets_its_probes_and_nothing_else() -> None:
    made = frame([row(n) for n in range(200)])
    found = versions(routed(made, with_breakers(memory(PLAN), breaker(state="half_open"))))
    assert found == {n: "v2.0.0" if is_probe(b"r%d" % n) else "v1.0.0" for n in range(200)}
    assert set(found.values()) == {"v1.0.0", "v2.0.0"}


def test_each_row_keeps_its_tensor_when_a_breaker_cuts_its_segment() -> None:
    made = frame([row(n, items=2) for n in range(100)])
    effects = routed(made, with_breakers(memory(PLAN), breaker(state="half_open")))
    for sent in effects:
        values = [np.frombuffer(each.inputs[0].data, "<f4")[::4].tolist() for each in sent.frame.segments]
        assert [int(value) for part in values for value in part] == Columns.of(sent.frame).offsets.tolist()


def test_pinned_rows_are_not_given_another_version() -> None:
    made = frame([row(1, version="v2.0.0"), row(2, version="v1.0.0")])
    effects = routed(made, with_breakers(memory(PLAN), breaker()))
    assert versions(effects) == {2: "v1.0.0"}
    assert [error.code for error in errors(effects)] == ["circuit_open"]


def test_rows_that_failed_go_to_another_version() -> None:
    made = frame([row(n) for n in range(3)])
    assert set(versions(routed(again(made, "v2.0.0"), memory(PLAN))).values()) == {"v1.0.0"}
    assert set(versions(routed(again(made, "v2.0.0"), memory(ALONE))).values()) == {"v2.0.0"}
    assert set(versions(routed(again(made, "v2.0.0", PINNED), memory(PLAN))).values()) == {"v2.0.0"}


def test_rows_that_failed_and_may_go_nowhere_end_with_what_they_failed_with() -> None:
    effects = routed(again(frame([row(1)]), "v2.0.0"), with_breakers(memory(ALONE), breaker()))
    assert versions(effects) == {}
    assert errors(effects) == [RowError(0, "execution_failed", "the session failed", 0)]
    (ended,) = effects
    assert (ended.frame.attempt, ended.frame.not_before_us) == (0, 0)


@given(
    st.lists(st.tuples(st.sampled_from(("", "v1.0.0", "v2.0.0")), st.text("abc", max_size=3)), min_size=1, max_size=30),
    st.dictionaries(st.sampled_from(("v1.0.0", "v2.0.0", "v3.0.0")), st.sampled_from(("open", "half_open"))),
    st.sampled_from((0, 50, 100)),
    st.booleans(),
)
def test_no_row_is_lost_or_doubled(
    rows: list[tuple[str, str]], states: dict[str, str], percent: int, retried: bool
) -> None:
    shared = replace(plan("digits", ("v1.0.0", percent), ("v2.0.0", 100 - percent)), fallbacks=("v3.0.0",))
    view = with_breakers(memory(shared), *(breaker(version, state) for version, state in states.items()))
    made = frame([row(n, version=version, routing_key=key) for n, (version, key) in enumerate(rows)])
    made = again(made, "v2.0.0") if retried else made
    effects = routed(made, view)
    offsets = sorted(offset for sent in effects for offset in Columns.of(sent.frame).offsets.tolist())
    assert offsets == list(range(len(rows)))
    for offset, version in versions(effects).items():
        request_id = request_ids(made)[Columns.of(made).offsets.tolist().index(offset)]
        assert states.get(version) != "open"
        assert states.get(version) != "half_open" or is_probe(request_id)
    routes = [each for each in routes_of(made, view, 4, 0) if each is not None]
    assert len(refused_rows(made, routes, T)) == len(rows) - len(versions(effects))
