"""Which checks are asked for when, and that each ends in exactly one outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.check_triggers import OF_ACTIVATION, OF_ALERT, OF_ROLLBACK
from agents.validations import MAX_OPEN, Params, State, decide, ignores
from schemas.canary import Canary
from schemas.check import CHECKS, INTEGRITY, SERVING, CheckRequest, GoldenSet, Observation
from schemas.environment import OpenReview
from schemas.figures import HeldArtefact, IntegrityFigures
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import Validation
from schemas.telemetry import Alert
from streams.agent import Effects, Event
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, Incident
from tests.support.control import HERE, SECOND, at, model_version, tick
from tests.support.samples import SAMPLES

PARAMS = Params()
DIGEST = "ab" * 32
GOLDEN = GoldenSet("digits", DIGEST, 4_000, 540, "labels", "classes", 950_000)
NOW = 1_000 * SECOND


class Agent:
    """The agent with its effects, and memory's chain as it grows."""

    def __init__(self) -> None:
        self.state = State()
        self.sent: list[Any] = []

    def give(self, event: Event) -> list[Any]:
        self.state, effects = decide(self.state, event, PARAMS)
        records = [effect.record for effect in effects]
        self.sent += records
        return records

    def memory(self, kind: str, key: str, body: Any, now_us: int = NOW, time_us: int | None = None) -> list[Any]:
        head = self.state.head
        time_us = now_us if time_us is None else time_us
        text = None if body is None else to_json(body)
        event = MemoryEvent(head.sequence + 1, head.last_hash, "c", "cli", kind, key, 1, text, "", (), time_us)
        return self.give(at(event, now_us, answers=bytes([head.sequence % 256]) * 32))

    def asked(self) -> list[CheckRequest]:
        return [each for each in self.sent if isinstance(each, CheckRequest)]

    def outcomes(self) -> list[Validation]:
        return [each for each in self.sent if isinstance(each, Validation)]


def made(*, golden: bool = True, versions: tuple[str, ...] = ("v1.0.0", "v2.0.0"), active: str = "v2.0.0") -> Agent:
    agent = Agent()
    for version in versions:
        agent.memory("ModelRegistered", f"model/digits/{version}", model_version(version=version), 1)
    agent.memory("VersionActivated", "active/digits", ActiveVersion("digits", active), 1)
    if golden:
        agent.memory("GoldenSetSet", "golden/digits", GOLDEN, 1)
    assert agent.sent == []
    return agent


def alert(kind: str, alert_id: str = "", version: str = "v2.0.0", time_us: int = NOW, resolved: bool = False) -> Alert:
    alert_id = alert_id or f"{kind}/digits/1"
    return Alert(alert_id, kind, "digits", "critical", "It is bad.", "", resolved, time_us, (), "digits", version)


def ids(requests: list[CheckRequest]) -> list[str]:
    return [each.request_id for each in requests]


def test_a_rollback_is_checked_once_it_has_settled() -> None:
    agent = made(golden=False)
    agent.memory("VersionRolledBack", "active/digits", ActiveVersion("digits", "v1.0.0"))
    assert agent.give(tick(NOW + PARAMS.settle_us - 1)) == []
    asked = agent.give(tick(NOW + PARAMS.settle_us))
    assert [each.check for each in asked] == list(OF_ROLLBACK)
    sequence = agent.state.head.sequence
    assert ids(asked) == [f"rollback/digits/{sequence}/{check}" for check in OF_ROLLBACK]
    assert {(each.version, each.requester, each.alert_id, each.causes) for each in asked} == {
        ("v1.0.0", "validations", "", (HERE,))
    }
    assert {each.deadline_us - each.requested_us for each in asked} == {PARAMS.deadline_us}
    assert agent.give(tick(NOW + 5 * SECOND)) == []


@pytest.mark.parametrize("incident_first", [True, False])
def test_checks_after_a_rollback_answer_its_incident(incident_first: bool) -> None:
    agent = made()
    incident = Incident("rollback/digits/7", "rollback", "digits", "critical", "", "")
    steps = [
        ("IncidentRaised", "incident/rollback/digits/7", incident),
        ("VersionRolledBack", "active/digits", ActiveVersion("digits", "v1.0.0")),
    ]
    for step in steps if incident_first else reversed(steps):
        agent.memory(*step)
    asked = agent.give(tick(NOW + 2 * SECOND))
    assert ids(asked) == [f"rollback/digits/7/{check}" for check in OF_ROLLBACK]
    assert {each.alert_id for each in asked} == {"rollback/digits/7"}
    agent.memory("IncidentResolved", "incident/rollback/digits/7", None)
    assert agent.state.incidents == {}


def rolled_back() -> tuple[Agent, dict[str, CheckRequest]]:
    agent = made()
    incident = Incident("rollback/digits/7", "rollback", "digits", "critical", "", "")
    agent.memory("VersionRolledBack", "active/digits", ActiveVersion("digits", "v1.0.0"))
    agent.memory("IncidentRaised", "incident/rollback/digits/7", incident)
    return agent, {each.check: each for each in agent.give(tick(NOW + 2 * SECOND))}


def test_what_did_not_pass_after_a_rollback_is_run_again_and_no_more_than_three_times() -> None:
    agent, asked = rolled_back()
    again = asked[INTEGRITY]
    now_us = NOW + 3 * SECOND
    for attempt in (2, 3):
        agent.give(at(observed(again, "cd" * 32), now_us))
        assert agent.give(tick(now_us + PARAMS.again_us)) == []
        now_us += PARAMS.again_us + PARAMS.settle_us
        (again,) = agent.give(tick(now_us))
        assert again.request_id == f"rollback/digits/7/integrity/{attempt}"
        assert (again.alert_id, again.version, again.check) == ("rollback/digits/7", "v1.0.0", INTEGRITY)
    agent.give(at(observed(again, "cd" * 32), now_us))
    assert agent.state.due == {}


@pytest.mark.parametrize(
    ("check", "has_run", "outcome"), [(SERVING, False, "again"), (INTEGRITY, False, "once"), (INTEGRITY, True, "once")]
)
def test_what_lacks_something_or_passed_is_not_run_again(check: str, has_run: bool, outcome: str) -> None:
    agent, asked = rolled_back()
    agent.give(at(replace(observed(asked[check]), has_run=has_run, problem="No traffic."), NOW + 3 * SECOND))
    assert list(agent.state.due) == ([f"rollback/digits/7/{check}/again"] if outcome == "again" else [])


@pytest.mark.parametrize("over", ["resolved", "moved"])
def test_nothing_is_run_again_for_an_incident_that_is_over(over: str) -> None:
    agent, asked = rolled_back()
    agent.give(at(observed(asked[INTEGRITY], "cd" * 32), NOW + 3 * SECOND))
    if over == "resolved":
        agent.memory("IncidentResolved", "incident/rollback/digits/7", None, NOW + 4 * SECOND)
    else:
        later_us = NOW + PARAMS.again_us
        agent.memory("VersionActivated", "active/digits", ActiveVersion("digits", "v2.0.0"), later_us)
    asked_later = agent.give(tick(NOW + 5 * SECOND + PARAMS.again_us))
    assert [each for each in asked_later if each.request_id.endswith("/2")] == []
    assert agent.state.due == {}


@pytest.mark.parametrize("kind", sorted(OF_ALERT))
def test_an_alert_is_answered_by_its_checks(kind: str) -> None:
    agent = made()
    agent.give(at(alert(kind, version="v1.0.0"), NOW))
    asked = agent.give(tick(NOW + 2 * SECOND))
    assert ids(asked) == [f"{kind}/digits/1/{check}" for check in OF_ALERT[kind]]
    assert {(each.version, each.alert_id, each.reason) for each in asked} == {
        ("v1.0.0", f"{kind}/digits/1", "It is bad.")
    }
    again = replace(alert(kind), alert_id=f"{kind}/digits/1")
    agent.give(at(again, NOW + 3 * SECOND))
    assert agent.give(tick(NOW + 5 * SECOND)) == []


def test_an_alert_without_a_version_means_the_active_one() -> None:
    agent = made()
    agent.give(at(alert("drift", version=""), NOW))
    assert {each.version for each in agent.give(tick(NOW + 2 * SECOND))} == {"v2.0.0"}


@pytest.mark.parametrize(
    "given",
    [
        alert("process_silent"),
        alert("drift", time_us=NOW - PARAMS.stale_us - 1),
        replace(alert("drift"), model="others", subject="others"),
        alert("drift", resolved=True),
    ],
    ids=["another kind", "old", "unknown model", "over"],
)
def test_alerts_that_nothing_answers(given: Alert) -> None:
    agent = made()
    agent.give(at(given, NOW))
    assert agent.give(tick(NOW + 2 * SECOND)) == []
    assert ignores(agent.state, given) == (given.kind not in OF_ALERT)


def test_an_alert_that_is_over_at_once_is_not_checked() -> None:
    agent = made()
    agent.give(at(alert("drift"), NOW))
    agent.give(at(alert("drift", resolved=True), NOW))
    assert agent.give(tick(NOW + 2 * SECOND)) == []


def test_the_same_check_comes_once_in_a_while_for_causes_of_a_kind() -> None:
    agent = made()
    for number in range(3):
        agent.give(at(alert("drift", f"drift/{number}", time_us=NOW + number * SECOND), NOW + number * SECOND))
        agent.give(tick(NOW + (number + 2) * SECOND))
    assert {each.alert_id for each in agent.asked()} == {"drift/0"}
    later = NOW + 2 * SECOND + PARAMS.quiet_us
    agent.give(at(alert("drift", "drift/9", time_us=later), later))
    agent.give(tick(later + 2 * SECOND))
    assert {each.alert_id for each in agent.asked()} == {"drift/0", "drift/9"}


def test_another_active_version_is_checked_where_there_is_a_golden_set() -> None:
    for golden in (True, False):
        agent = made(golden=golden)
        agent.memory("VersionActivated", "active/digits", ActiveVersion("digits", "v1.0.0"))
        asked = agent.give(tick(NOW + 2 * SECOND))
        assert [each.check for each in asked] == (list(OF_ACTIVATION) if golden else [])


def test_a_canary_is_checked_and_the_active_version_is_not() -> None:
    for golden in (True, False):
        agent = made(golden=golden)
        agent.give(tick(NOW))
        agent.memory("CanarySet", "canary/digits", Canary("digits", "v1.0.0", 5))
        asked = agent.give(tick(NOW + 2 * SECOND))
        wanted = [(check, "v1.0.0") for check in OF_ACTIVATION] if golden else []
        assert [(each.check, each.version) for each in asked] == wanted


def opened(kind: str = "ActivateVersion", policy: str = "people", model: str = "digits") -> OpenReview:
    body = to_json(ActiveVersion(model, "v1.0.0"))
    command = MemoryCommand("c", "cli", kind, f"active/{model}", 1, body, "", (), NOW)
    request = replace(SAMPLES["ReviewRequest"], review_id="r7", policy=policy)
    return OpenReview(request, command)


@pytest.mark.parametrize("golden", [True, False])
def test_an_activation_that_waits_for_people_is_rehearsed(golden: bool) -> None:
    agent = made(golden=golden)
    agent.memory("ReviewOpened", "review/r7", opened())
    asked = agent.give(tick(NOW + 2 * SECOND))
    assert ids(asked) == [f"review/r7/{check}" for check in (OF_ACTIVATION if golden else (INTEGRITY,))]
    assert {(each.version, each.alert_id) for each in asked} == {("v1.0.0", "review/r7")}


@pytest.mark.parametrize(
    "review",
    [opened("SetServingPolicy"), opened(policy="development"), opened(model="others")],
    ids=["kind", "policy", "model"],
)
def test_reviews_that_nothing_rehearses(review: OpenReview) -> None:
    agent = made()
    agent.memory("ReviewOpened", "review/r7", review)
    assert agent.give(tick(NOW + 2 * SECOND)) == []


def test_a_review_that_is_over_at_once_is_not_rehearsed() -> None:
    agent = made()
    agent.memory("ReviewOpened", "review/r7", opened())
    agent.memory("ReviewRejected", "review/r7", None)
    assert agent.give(tick(NOW + 2 * SECOND)) == []


def test_of_two_moves_in_one_breath_the_last_is_checked() -> None:
    agent = made()
    agent.memory("VersionActivated", "active/digits", ActiveVersion("digits", "v1.0.0"))
    agent.memory("VersionRolledBack", "active/digits", ActiveVersion("digits", "v2.0.0"))
    asked = agent.give(tick(NOW + 2 * SECOND))
    assert [(each.check, each.version) for each in asked] == [(check, "v2.0.0") for check in OF_ROLLBACK]


def test_an_old_move_and_a_void_event_cause_nothing() -> None:
    agent = made()
    moved = ActiveVersion("digits", "v1.0.0")
    agent.memory("VersionRolledBack", "active/digits", moved, NOW, NOW - PARAMS.stale_us - 1)
    assert agent.give(tick(NOW + 2 * SECOND)) == []
    before = agent.state
    forged = MemoryEvent(99, bytes(32), "c", "x", "VersionRolledBack", "active/digits", 1, to_json(moved), "", (), NOW)
    agent.give(at(forged, NOW, answers=bytes(32)))
    assert agent.state == before


def request(number: int = 0, check: str = INTEGRITY, version: str = "v1.0.0") -> CheckRequest:
    run = f"operator/{number}/{check}"
    return CheckRequest(run, check, "digits", version, "asked", "", "operator", NOW, NOW + PARAMS.deadline_us)


def observed(given: CheckRequest, digest: str = DIGEST) -> Observation:
    figures = IntegrityFigures(digest, (HeldArtefact("executor-0", DIGEST),))
    return Observation(given, True, "", 1, to_json(figures), NOW + 1, NOW + 2)


@pytest.mark.parametrize(("digest", "outcome"), [(DIGEST, "passed"), ("cd" * 32, "failed")])
@pytest.mark.parametrize("request_first", [True, False])
def test_an_operators_check_ends_in_one_outcome(digest: str, outcome: str, request_first: bool) -> None:
    agent = made()
    given = [at(request(), NOW), at(observed(request(), digest), NOW + SECOND)]
    for event in (*(given if request_first else given[::-1]), *given):
        agent.give(event)
    (validation,) = agent.outcomes()
    assert (validation.validation_id, validation.outcome, validation.passed) == (
        "operator/0/integrity", outcome, outcome == "passed",
    )  # fmt: skip
    assert (validation.model, validation.version, validation.num_samples) == ("digits", "v1.0.0", 1)
    assert HERE in validation.causes
    assert agent.state.open == {}


def test_what_nobody_measures_ends_as_not_run() -> None:
    agent = made()
    agent.give(at(request(), NOW))
    assert agent.give(tick(NOW + PARAMS.deadline_us + PARAMS.late_us - 1)) == []
    (validation,) = agent.give(tick(NOW + PARAMS.deadline_us + PARAMS.late_us))
    assert (validation.outcome, validation.passed) == ("not_run", False)
    assert validation.message == "Nobody measured it in time."
    assert agent.give(at(observed(request()), NOW + 60 * SECOND)) == []


def test_a_request_that_is_over_is_left_alone_and_too_many_are_refused() -> None:
    agent = made()
    assert agent.give(at(request(), NOW + PARAMS.deadline_us)) == []
    assert agent.state.open == {}
    for number in range(MAX_OPEN):
        assert agent.give(at(request(number), NOW)) == []
    (refused,) = agent.give(at(request(MAX_OPEN), NOW))
    assert (refused.outcome, refused.message) == ("not_run", "Too many checks are open.")
    agent.give(at(alert("drift"), NOW))
    assert agent.give(tick(NOW + 2 * SECOND)) == []


def test_its_own_requests_are_not_even_journaled() -> None:
    agent = made()
    agent.give(at(alert("drift"), NOW))
    asked = agent.give(tick(NOW + 2 * SECOND))
    assert all(ignores(agent.state, each) for each in asked)
    assert not ignores(agent.state, request())
    assert not ignores(agent.state, observed(request()))


EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 5), st.sampled_from([INTEGRITY, SERVING])),
    st.tuples(st.just("observe"), st.integers(0, 5), st.sampled_from([INTEGRITY, SERVING])),
    st.tuples(st.just("tick"), st.integers(0, 40), st.just("")),
    st.tuples(st.just("alert"), st.integers(0, 3), st.sampled_from(sorted(OF_ALERT))),
    st.tuples(st.just("move"), st.integers(1, 2), st.sampled_from(["VersionActivated", "VersionRolledBack"])),
)


@given(st.lists(EVENTS, max_size=40))
def test_whatever_comes_no_check_ends_twice_and_every_check_ends(steps: list[tuple[str, int, str]]) -> None:
    agent = made()
    now_us = NOW
    for what, number, kind in steps:
        now_us += SECOND // 2
        if what == "ask":
            agent.give(at(replace(request(number, kind), deadline_us=now_us + PARAMS.deadline_us), now_us))
        elif what == "observe":
            agent.give(at(observed(request(number, kind)), now_us))
        elif what == "tick":
            now_us += number * SECOND
            agent.give(tick(now_us))
        elif what == "alert":
            agent.give(at(alert(kind, f"{kind}/{number}", time_us=now_us), now_us))
        else:
            agent.memory(kind, "active/digits", ActiveVersion("digits", f"v{number}.0.0"), now_us)
        again = from_json(State, to_json(agent.state))
        assert again == agent.state
    for _ in range(3):
        now_us += PARAMS.deadline_us + PARAMS.late_us
        agent.give(tick(now_us))
    ended = [each.validation_id for each in agent.outcomes()]
    assert len(ended) == len(set(ended))
    assert set(ids(agent.asked())) <= set(ended)
    assert (agent.state.open, agent.state.due) == ({}, {})
    assert {each.check for each in agent.asked()} <= set(CHECKS)


def test_effects_are_nothing_but_publishes_on_its_topics() -> None:
    effects: Effects = ()
    state = made().state
    state, more = decide(state, at(alert("drift"), NOW), PARAMS)
    effects += more
    state, more = decide(state, tick(NOW + 2 * SECOND), PARAMS)
    effects += more
    assert {(effect.topic, effect.key) for effect in effects} == {("control.validation-requests", b"digits")}
