"""The Orchestrator: what it accepts, what it refuses, and that nothing is handled twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import orchestrator as orc
from agents.orchestrator import KEPT_REJECTIONS, REMEMBERED_COMMANDS, State, Value, decide
from schemas.cache import CachePolicy
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import Plan, PlanProposal, VersionWeight
from schemas.review import ContextSignal
from schemas.telemetry import Alert
from streams.agent import Effects, Publish
from streams.canonical import to_json
from streams.memory_fold import extend
from streams.memory_view import ActiveVersion, Incident, MemoryView, Rejection, active_version, plan, rejection
from tests.support.control import HERE, SECOND, at, chained, model_version

PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000)


def register(model: ModelVersion, command_id: str = "r1", expected_version: int = 0) -> MemoryCommand:
    key = f"model/{model.model}/{model.version}"
    return MemoryCommand(command_id, "cli", "RegisterModel", key, expected_version, to_json(model), "new", (), 5)


def proposal(plan_: Plan = PLAN, expected: int = 0, proposal_id: str = "p1") -> PlanProposal:
    return PlanProposal(proposal_id, plan_, expected, "wanted", (), 5)


def run(*records: object) -> tuple[State, list[Effects]]:
    state, effects = State(), []
    for record in records:
        state, made = decide(state, at(record), None)
        effects.append(made)
    return state, effects


def events(effects: Effects) -> list[MemoryEvent]:
    return [effect.record for effect in effects]


def refusal(effects: Effects) -> Rejection:
    from streams.canonical import from_json

    (event,) = events(effects)
    assert (event.kind, event.key) == ("CommandRejected", f"rejections/{event.command_id}")
    assert event.body is not None
    return from_json(Rejection, event.body)


def test_the_first_version_is_registered_and_active() -> None:
    model = model_version()
    state, (effects,) = run(register(model))
    active = to_json(ActiveVersion("digits", "v1.0.0"))
    common: dict[str, Any] = {
        "prev_hash": bytes(32),
        "command_id": "r1",
        "agent": "cli",
        "version": 1,
        "reason": "new",
        "time_us": SECOND,
    }
    assert effects == (
        Publish(
            "memory.events",
            b"model/digits/v1.0.0",
            MemoryEvent(
                sequence=1,
                kind="ModelRegistered",
                key="model/digits/v1.0.0",
                body=to_json(model),
                causes=(HERE,),
                **common,
            ),
            0,
        ),
        Publish(
            "memory.events",
            b"active/digits",
            MemoryEvent(
                sequence=2, kind="VersionActivated", key="active/digits", body=active, causes=(HERE,), **common
            ),
            0,
        ),
    )
    assert state == State(
        2, {"model/digits/v1.0.0": Value(1, to_json(model)), "active/digits": Value(1, active)}, ("r1",), ()
    )


def test_a_later_version_waits() -> None:
    _, (_, effects) = run(register(model_version()), register(model_version(version="v1.1.0"), "r2"))
    assert [event.kind for event in events(effects)] == ["ModelRegistered"]


def test_the_same_command_or_content_again_changes_nothing() -> None:
    _, (_, again, renamed) = run(
        register(model_version()), register(model_version()), register(model_version(), "r2", expected_version=0)
    )
    assert (again, renamed) == ((), ())


def test_another_content_under_the_same_version_is_refused() -> None:
    _, (_, effects) = run(register(model_version()), register(model_version(digest="cd" * 32), "r2"))
    assert refusal(effects) == Rejection(
        "r2", "already_registered", "digits v1.0.0 is registered with another content."
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (replace(register(model_version()), kind="Sudo"), "unknown_kind"),
        (replace(register(model_version()), agent="planner"), "not_permitted"),
        (replace(register(model_version()), body="{}"), "invalid_body"),
        (replace(register(model_version()), key="model/other/v1.0.0"), "invalid_body"),
        (register(model_version(digest="xyz")), "invalid_body"),
        (register(model_version(name="no")), "invalid_name"),
        (register(model_version(version="1.0")), "invalid_name"),
        (register(model_version(), expected_version=3), "version_mismatch"),
    ],
)
def test_refused_commands(command: MemoryCommand, code: str) -> None:
    _, (effects, again) = run(command, command)
    assert refusal(effects).code == code
    assert again == ()


def test_a_plan_becomes_effective_and_is_replaced_only_by_who_saw_it() -> None:
    later = replace(PLAN, max_batch_size=32)
    state, (_, first, stale, second) = run(
        register(model_version()), proposal(), proposal(later, 0, "p2"), proposal(later, 1, "p3")
    )
    (event,) = events(first)
    assert (event.kind, event.key, event.version, event.agent) == ("PlanMadeEffective", "plan/digits", 1, "planner")
    assert refusal(stale) == Rejection("p2", "version_mismatch", "plan/digits has version 1, not 0.")
    assert [event.version for event in events(second)] == [2]
    assert state.values["plan/digits"] == Value(2, to_json(later))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (replace(PLAN, model="other"), "unknown_model"),
        (replace(PLAN, versions=(VersionWeight("v9.0.0", 100),)), "unknown_version"),
        (replace(PLAN, versions=(VersionWeight("v1.0.0", 99),)), "invalid_weights"),
        (replace(PLAN, versions=(VersionWeight("v1.0.0", 50), VersionWeight("v1.0.0", 50))), "invalid_weights"),
        (replace(PLAN, max_batch_size=0), "invalid_plan"),
    ],
)
def test_refused_plans(wrong: Plan, code: str) -> None:
    _, (_, effects) = run(register(model_version()), proposal(wrong))
    assert refusal(effects).code == code


def test_no_versions_are_no_plan() -> None:
    _, (_, effects) = run(register(model_version()), proposal(replace(PLAN, versions=())))
    assert refusal(effects).code == "invalid_weights"


def test_incidents_open_and_close() -> None:
    alert = Alert("a1", "process_silent", "router-0", "critical", "It is silent.", "{}", False, 9, (HERE,))
    resolved = replace(alert, resolved=True, message="It is back.")
    state, (opened, repeated, closed, unknown) = run(alert, alert, resolved, replace(resolved, alert_id="a2"))
    (event,) = events(opened)
    assert event.body == to_json(Incident("a1", "process_silent", "router-0", "critical", "It is silent.", "{}"))
    assert (event.kind, event.causes) == ("IncidentRaised", (HERE, HERE))
    assert repeated == ()
    assert [(event.kind, event.key, event.body) for event in events(closed)] == [
        ("IncidentResolved", "incident/a1", None)
    ]
    assert unknown == ()
    assert state.values == {}


def test_a_person_may_close_an_incident_and_nothing_else_that_way() -> None:
    alert = Alert("a1", "process_silent", "edge-0", "critical", "silent", "{}", False, 5, ())

    def close(key: str) -> MemoryCommand:
        return MemoryCommand(f"x/{key}", "cli", "ResolveIncident", key, -1, "", "looked into", (), 5)

    _, (*_, closed, wrong) = run(register(model_version()), alert, close("incident/a1"), close("active/digits"))
    assert [(each.kind, each.key) for each in events(closed)] == [("IncidentResolved", "incident/a1")]
    assert refusal(wrong).code == "invalid_body"


def test_context_is_noted() -> None:
    signal = ContextSignal("s1", "constraint", "model/*", "{}", "rules file", 9)
    command = MemoryCommand("n1", "researcher", "NoteContext", "context/s1", -1, to_json(signal), "rule", (), 9)
    state, _ = run(command)
    assert state.values == {"context/s1": Value(1, to_json(signal))}


def test_rejections_and_command_ids_stay_bounded() -> None:
    state = State()
    for number in range(REMEMBERED_COMMANDS + 10):
        wrong = replace(register(model_version()), command_id=f"w{number}", kind="Sudo")
        state, _ = decide(state, at(wrong), None)
    assert len(state.values) == len(state.rejections) == KEPT_REJECTIONS
    assert len(state.seen) == REMEMBERED_COMMANDS


commands = st.one_of(
    st.builds(
        lambda version, digest, expected, identity: register(
            model_version(version=version, digest=digest * 32), identity, expected
        ),
        st.sampled_from(["v1.0.0", "v2.0.0", "bad"]),
        st.sampled_from(["ab", "cd"]),
        st.integers(-1, 2),
        st.sampled_from("abcdef"),
    ),
    st.builds(
        lambda version, expected, identity: proposal(
            replace(PLAN, versions=(VersionWeight(version, 100),)), expected, identity
        ),
        st.sampled_from(["v1.0.0", "v2.0.0"]),
        st.integers(-1, 3),
        st.sampled_from("ghijkl"),
    ),
)


@given(st.lists(commands, max_size=25))
def test_memory_is_the_fold_of_its_events(records: list[object]) -> None:
    state, effects = run(*records)
    flat = tuple(effect for made in effects for effect in made)
    view, voids = extend(MemoryView(), chained(flat))
    assert voids == ()
    assert view.sequence == state.sequence == len(flat)
    assert {key: Value(e.version, e.body) for key, e in view.entries.items()} == state.values
    served = plan(view, "digits")
    assert served is None or active_version(view, "digits") is not None
    for record in records:
        identity = getattr(record, "command_id", None) or getattr(record, "proposal_id", "")
        assert identity in state.seen
        assert rejection(view, identity) is None or f"rejections/{identity}" in state.values


def test_the_declaration_names_what_it_writes() -> None:
    assert orc.ORCHESTRATOR.emits == ("memory.events", "control.review-requests", "control.escalations")


def cache(command_id: str, *, expected: int = -1, **wanted: object) -> MemoryCommand:
    facts: dict[str, Any] = {"model": "digits", "enabled": True, "epoch": 1, "ttl_s": 60, **wanted}
    policy = CachePolicy(**facts)
    return MemoryCommand(command_id, "cli", "SetCachePolicy", "cache/digits", expected, to_json(policy), "why", (), 5)


def test_a_models_answers_may_be_cached() -> None:
    state, effects = run(register(model_version()), cache("c1"), cache("c2", epoch=2, enabled=False))
    made = [(event.kind, event.key, event.version) for event in events((*effects[1], *effects[2]))]
    assert made == [("CachePolicySet", "cache/digits", 1), ("CachePolicySet", "cache/digits", 2)]
    assert state.values["cache/digits"].body == to_json(CachePolicy("digits", False, 2, 60))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (cache("c", epoch=1, ttl_s=61), "stale_epoch"),
        (cache("c", epoch=3, ttl_s=0), "invalid_policy"),
        (cache("c", epoch=3, ttl_s=604_801), "invalid_policy"),
        (cache("c", epoch=3, model="letters"), "invalid_body"),
        (replace(cache("c", model="letters"), key="cache/letters"), "unknown_model"),
        (cache("c", epoch=3, expected=7), "version_mismatch"),
        (replace(cache("c", epoch=3), agent="planner"), "not_permitted"),
        (replace(cache("c"), body="{}"), "invalid_body"),
    ],
)
def test_what_no_cache_is_set_to(command: MemoryCommand, code: str) -> None:
    _, effects = run(register(model_version()), cache("first", epoch=2), command)
    assert refusal(effects[2]).code == code


def test_a_model_that_draws_lots_is_not_cached() -> None:
    lots = replace(model_version(), deterministic=False)
    _, effects = run(register(lots), cache("c1"), cache("c2", enabled=False))
    assert refusal(effects[1]).code == "not_deterministic"
    assert [event.kind for event in events(effects[2])] == ["CachePolicySet"]
    sure = replace(model_version(), version="v2.0.0")
    _, effects = run(register(lots), register(sure, "r2"), cache("c1"))
    assert [event.kind for event in events(effects[2])] == ["CachePolicySet"]
