"""Roll-back: only to a version that proved itself, in the same decision, never back and forth, and told to people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.orchestrator import decide
from agents.rollback import COOLDOWN_US, IN_SERVICE, VERIFIED_BY
from agents.verdict import State
from schemas.cache import CachePolicy
from schemas.check import GoldenSet
from schemas.coordinate import RecordCoordinate
from schemas.known_good import KEPT_GOOD, Activation, Configuration, GoodVersion, KnownGood, Rollback
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import Escalation, Validation
from schemas.serving import Breaker, ServingPolicy, Slo
from schemas.telemetry import Alert
from streams.agent import Effects
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, Incident
from tests.support.control import HERE, SECOND, at, model_version
from tests.unit.agents.test_orchestrator import register

MINUTE = 60 * SECOND
CAUSE = RecordCoordinate("control.telemetry", 0, 3)


class World:
    """The Orchestrator with a model of three versions."""

    def __init__(self) -> None:
        self.state = State()
        self.now_us = 1_000 * SECOND
        self.last: Effects = ()
        self.number = 0
        for version in ("v1.0.0", "v2.0.0", "v3.0.0"):
            self.send(register(model_version(version=version), f"r/{version}"))

    def hear(self, record: object, after_us: int = SECOND) -> Effects:
        self.now_us += after_us
        self.state, self.last = decide(self.state, at(record, self.now_us), None)
        return self.last

    def send(self, command: MemoryCommand) -> Effects:
        return self.hear(command)

    def command(self, kind: str, key: str, body: object, agent: str = "cli") -> Effects:
        self.number += 1
        text = to_json(body)
        return self.send(MemoryCommand(f"c{self.number}", agent, kind, key, -1, text, "why", (), self.now_us))

    def activate(self, version: str) -> None:
        self.command("ActivateVersion", "active/digits", ActiveVersion("digits", version))

    def mark(self, version: str, served: Configuration | None = None) -> Effects:
        """The Monitor asks for a version to be noted; ``served``: how it was, None where it cannot tell."""
        entry = GoodVersion(version, "", self.now_us, self.now_us, 300, served)
        return self.command("MarkVersionGood", "good/digits", KnownGood("digits", (entry,)), "monitor")

    def serve(self, **policy: Any) -> ServingPolicy:
        """An operator has rows served like this."""
        wanted = ServingPolicy("digits", **policy)
        self.command("SetServingPolicy", "serving/digits", wanted)
        return wanted

    def cache(self, ttl_s: int, epoch: int = 1) -> CachePolicy:
        wanted = CachePolicy("digits", True, epoch, ttl_s)
        self.command("SetCachePolicy", "cache/digits", wanted)
        return wanted

    def burn(self, version: str, number: int = 1, **changes: Any) -> Effects:
        return self.hear(replace(alert(version, number), **changes))

    def check(self, name: str, *, passed: bool = True, **changes: Any) -> Effects:
        said = validation(name, passed, self.rollback.rollback_id, self.rollback.to_version)
        return self.hear(replace(said, **changes))

    def body(self, key: str, kind: type[Any]) -> Any:
        return from_json(kind, self.state.values[key].body)

    @property
    def active(self) -> str:
        version: str = self.body("active/digits", ActiveVersion).version
        return version

    @property
    def rollback(self) -> Rollback:
        found: Rollback = self.body("rollback/digits", Rollback)
        return found

    @property
    def kinds(self) -> list[str]:
        return [effect.record.kind for effect in self.last if isinstance(effect.record, MemoryEvent)]

    @property
    def told(self) -> list[Escalation]:
        return [effect.record for effect in self.last if effect.topic == "control.escalations"]

    @property
    def open_incidents(self) -> list[str]:
        return [key for key in self.state.values if key.startswith("incident/rollback/")]


def alert(version: str, number: int = 1) -> Alert:
    message = f"30 of 100 rows of digits {version} ended badly."
    head = f"slo_burn/digits/errors/fast/{number}", "slo_burn", "digits", "critical", message
    return Alert(*head, "{}", False, 5, (CAUSE,), "digits", version)


def validation(check: str, passed: bool, incident: str = "", version: str = "v1.0.0") -> Validation:
    outcome = "passed" if passed else "failed"
    head = f"{incident or 'x'}/{check}", check, "digits", version, passed, f"It {outcome}.", 5
    return Validation(*head, outcome, 100, "{}", incident)


def ready() -> World:
    """v1 proved itself, and v2 serves since."""
    world = World()
    world.mark("v1.0.0")
    world.activate("v2.0.0")
    return world


def test_a_breach_rolls_back_in_the_decision_that_notes_its_incident() -> None:
    world = ready()
    world.burn("v2.0.0")
    assert world.kinds == ["IncidentRaised", "VersionRolledBack", "RollbackStarted", "IncidentRaised"]
    events = [effect.record for effect in world.last if isinstance(effect.record, MemoryEvent)]
    assert [each.sequence for each in events] == list(range(events[0].sequence, events[0].sequence + 4))
    assert events[1].causes == (CAUSE, HERE)
    sentence = "digits is rolled back from v2.0.0 to v1.0.0. 30 of 100 rows of digits v2.0.0 ended badly."
    assert (events[1].agent, events[1].reason) == ("orchestrator", sentence)
    assert world.active == "v1.0.0"
    identity = f"rollback/digits/{world.now_us}"
    assert (world.rollback.rollback_id, world.rollback.from_version, world.rollback.to_version) == (
        *(identity, "v2.0.0", "v1.0.0"),
    )
    incident = world.body(f"incident/{identity}", Incident)
    assert (incident.kind, incident.subject, incident.severity) == ("rollback", "digits", "critical")
    assert [(each.escalation_id, each.agent, each.reason) for each in world.told] == [
        (identity, "orchestrator", sentence)
    ]
    world.burn("v2.0.0")  # the same alert once more
    assert world.last == ()


def unmarked(world: World) -> None:
    world.state = replace(world.state, values={k: v for k, v in world.state.values.items() if k != "good/digits"})


def switched_off(world: World) -> None:
    world.command("SetServingPolicy", "serving/digits", ServingPolicy("digits", auto_rollback=False))


def proved(world: World) -> None:
    world.mark("v2.0.0")


def broken(world: World) -> None:
    breaker = Breaker("digits", "v1.0.0", "open", "bad", world.now_us, SECOND)
    world.command("OpenBreaker", "breaker/digits/v1.0.0", breaker, "monitor")


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (unmarked, "no_known_good"),
        (switched_off, "auto_rollback_off"),
        (proved, "proven"),
        (broken, "no_known_good"),
    ],
)
def test_where_nothing_may_be_done_people_are_told(prepare: Any, code: str) -> None:
    world = ready()
    prepare(world)
    world.burn("v2.0.0")
    assert world.kinds == ["IncidentRaised"]
    assert world.active == "v2.0.0"
    assert [each.escalation_id for each in world.told] == [f"slo_burn/digits/errors/fast/1/{code}"]
    assert world.told[0].reason.startswith("digits v2.0.0 is not rolled back by itself: ")
    assert world.told[0].causes == (CAUSE, HERE)


def test_without_somebody_to_blame_nobody_is_rolled_back() -> None:
    world = ready()
    world.burn("")
    assert (world.active, [each.escalation_id.rpartition("/")[2] for each in world.told]) == (
        *("v2.0.0", ["nobody_to_blame"]),
    )


@pytest.mark.parametrize(
    "changes",
    [{"version": "v3.0.0"}, {"severity": "warning"}, {"kind": "process_silent"}, {"model": ""}, {"model": "nobody"}],
)
def test_other_alerts_ask_for_nothing(changes: dict[str, Any]) -> None:
    world = ready()
    world.hear(replace(alert("v2.0.0"), **changes))
    assert (world.kinds, world.told, world.active) == (["IncidentRaised"], [], "v2.0.0")


def test_a_breaker_that_opens_rolls_back_too() -> None:
    world = ready()
    world.burn("v2.0.0", kind="breaker_open", alert_id="breaker_open/digits/v2.0.0/1", subject="digits/v2.0.0")
    assert world.active == "v1.0.0"


def test_a_second_roll_back_within_the_cooldown_is_a_persons() -> None:
    world = ready()
    world.burn("v2.0.0")
    world.activate("v3.0.0")
    world.burn("v3.0.0", 2)
    assert (world.active, world.told[0].escalation_id.rpartition("/")[2]) == ("v3.0.0", "cooldown")
    world.hear(alert("v3.0.0", 3), COOLDOWN_US)
    assert world.active == "v1.0.0"
    assert len(world.open_incidents) == 1  # nobody will verify the first one any more
    assert "IncidentResolved" in world.kinds


def test_the_newest_version_that_proved_itself_is_chosen() -> None:
    world = World()
    for _ in range(4):
        for version in ("v1.0.0", "v2.0.0"):
            world.activate(version)
            world.mark(version)
    assert [each.version for each in world.body("good/digits", KnownGood).versions] == ["v2.0.0", "v1.0.0"]
    world.activate("v3.0.0")
    world.burn("v3.0.0")
    assert world.active == "v2.0.0"


def test_the_history_is_bounded() -> None:
    world = World()
    for number in range(4, 12):
        version = f"v{number}.0.0"
        world.send(register(model_version(version=version), f"r/{version}"))
        world.activate(version)
        world.mark(version)
    names = [each.version for each in world.body("good/digits", KnownGood).versions]
    assert names == [f"v{number}.0.0" for number in range(11, 11 - KEPT_GOOD, -1)]


def test_what_a_person_rolled_back_from_is_no_target() -> None:
    world = World()
    world.mark("v1.0.0")
    world.activate("v2.0.0")
    world.mark("v2.0.0")
    world.activate("v1.0.0")
    assert world.kinds == ["VersionRolledBack", "KnownGoodStruck"]
    assert [each.version for each in world.body("good/digits", KnownGood).versions] == ["v1.0.0"]
    world.activate("v3.0.0")
    world.mark("v3.0.0")
    world.activate("v2.0.0")  # v3 is struck, v1 is what is left
    world.burn("v2.0.0")
    assert world.active == "v1.0.0"


@pytest.mark.parametrize(
    ("version", "key", "code"),
    [
        ("v2.0.0", "good/digits", "not_active"),
        ("v9.0.0", "good/digits", "unknown_version"),
        ("v1.0.0", "good/others", "invalid_body"),
    ],
)
def test_only_the_active_registered_version_is_marked(version: str, key: str, code: str) -> None:
    world = World()
    world.command("MarkVersionGood", key, KnownGood("digits", (GoodVersion(version, "", 1, 2, 3),)), "monitor")
    assert world.kinds == ["CommandRejected"]
    assert code in (world.last[0].record.body or "")


def test_nobody_but_the_monitor_marks() -> None:
    world = World()
    world.command("MarkVersionGood", "good/digits", KnownGood("digits", (GoodVersion("v1.0.0", "", 1, 2, 3),)))
    assert "not_permitted" in (world.last[0].record.body or "")


def with_golden_set(world: World) -> World:
    golden = GoldenSet("digits", "ab" * 32, 10, 10, "outputs", "", 950_000)
    world.command("SetGoldenSet", "golden/digits", golden)
    assert world.kinds == ["GoldenSetSet"]
    return world


def test_a_model_without_a_golden_set_is_verified_by_the_other_checks() -> None:
    world = ready()
    world.burn("v2.0.0")
    for name in ("serving", "latency", "integrity"):
        assert world.rollback.state == "verifying"
        world.check(name)
    assert (world.rollback.state, world.open_incidents) == ("verified", [])


def test_all_checks_that_passed_verify_a_roll_back() -> None:
    world = with_golden_set(ready())
    world.burn("v2.0.0")
    for name in VERIFIED_BY[:-1]:
        world.check(name)
        assert (world.kinds, len(world.open_incidents)) == (["RollbackChecked"], 1)
    world.check(VERIFIED_BY[-1])
    assert world.kinds == ["RollbackVerified", "IncidentResolved"]
    assert (world.rollback.state, world.open_incidents) == ("verified", [])
    assert [each.name for each in world.rollback.checks] == list(VERIFIED_BY)
    world.check("serving", passed=False)  # afterwards it is a failed check like any other
    assert world.rollback.state == "verified"


def test_the_version_that_proves_itself_again_verifies_it_too() -> None:
    world = ready()
    world.burn("v2.0.0")
    world.check("serving")
    world.check("golden_set", passed=False, outcome="not_run")
    assert world.last == ()
    world.mark("v1.0.0")
    assert world.kinds == ["VersionMarkedGood", "RollbackVerified", "IncidentResolved"]
    assert {each.name for each in world.rollback.checks} == {"serving", IN_SERVICE}


def test_a_failed_check_keeps_the_incident_open_and_is_told() -> None:
    world = ready()
    world.burn("v2.0.0")
    world.check("integrity", passed=False)
    assert (world.kinds, len(world.told)) == (["RollbackChecked"], 1)
    assert world.told[0].reason == "The roll-back of digits to v1.0.0: integrity failed. It failed."
    world.mark("v1.0.0")
    assert world.rollback.state == "verifying"
    world.check("integrity")
    assert (world.rollback.state, world.open_incidents) == ("verified", [])


def test_a_failed_check_of_the_active_version_rolls_back() -> None:
    world = ready()
    world.hear(validation("golden_set", False, version="v2.0.0"))
    assert world.kinds == ["VersionRolledBack", "RollbackStarted", "IncidentRaised"]
    assert world.active == "v1.0.0"
    assert "The check golden_set of digits v2.0.0 failed: It failed." in world.rollback.reason


@pytest.mark.parametrize(
    "said",
    [
        validation("golden_set", True, version="v2.0.0"),
        replace(validation("golden_set", False, version="v2.0.0"), outcome="not_run"),
        validation("golden_set", False, version="v1.0.0"),
        validation("schema_statistics", False, version="v2.0.0"),
        replace(validation("golden_set", False, version="v2.0.0"), model="nobody"),
    ],
)
def test_other_validations_ask_for_nothing(said: Validation) -> None:
    world = ready()
    assert world.hear(said) == ()


def test_what_was_never_marked_is_never_a_target() -> None:
    world = World()
    world.activate("v2.0.0")
    world.activate("v3.0.0")
    for number in range(1, 5):
        world.hear(alert("v3.0.0", number), MINUTE)
        assert (world.active, world.told[0].escalation_id.rpartition("/")[2]) == ("v3.0.0", "no_known_good")


SLO = Slo(error_ppm=1_000)


def served_otherwise() -> tuple[World, ServingPolicy]:
    """v1 proved itself with three tries and a fallback, and is served otherwise since; its promise came later, too."""
    world = World()
    good = world.serve(max_attempts=3, fallbacks=("v2.0.0",))
    world.mark("v1.0.0", Configuration(good))
    world.serve(max_attempts=1, hedge=True, slo=SLO)
    return world, good


def test_a_breach_after_another_policy_puts_the_policy_back_and_lets_the_version_stay() -> None:
    world, good = served_otherwise()
    world.burn("v1.0.0")
    assert world.kinds == ["IncidentRaised", "ServingPolicySet", "RollbackStarted", "IncidentRaised"]
    assert world.body("serving/digits", ServingPolicy) == replace(good, slo=SLO)
    assert world.active == "v1.0.0"
    rollback = world.rollback
    assert (rollback.from_version, rollback.to_version) == ("v1.0.0", "v1.0.0")
    assert rollback.restored == ("fallbacks", "max_attempts", "hedge")
    sentence = (
        "digits v1.0.0 is served as when it proved itself (fallbacks, max_attempts, hedge). "
        "30 of 100 rows of digits v1.0.0 ended badly."
    )
    events = [effect.record for effect in world.last if isinstance(effect.record, MemoryEvent)]
    assert (events[1].agent, events[1].reason, events[1].causes) == ("orchestrator", sentence, (CAUSE, HERE))
    assert [each.reason for each in world.told] == [sentence]
    for name in ("serving", "latency", "integrity"):
        world.check(name)
    assert (world.rollback.state, world.open_incidents) == ("verified", [])


def test_the_same_configuration_proves_itself_again_and_that_verifies_it() -> None:
    world, good = served_otherwise()
    world.burn("v1.0.0")
    world.mark("v1.0.0", Configuration(replace(good, slo=SLO)))
    assert world.kinds == ["VersionMarkedGood", "RollbackVerified", "IncidentResolved"]


def test_where_both_changed_both_are_put_back() -> None:
    world, good = served_otherwise()
    world.activate("v2.0.0")
    world.cache(60)
    world.burn("v2.0.0")
    assert world.kinds == [
        *("IncidentRaised", "VersionRolledBack", "ServingPolicySet", "CachePolicySet"),
        *("RollbackStarted", "IncidentRaised"),
    ]
    assert (world.active, world.body("serving/digits", ServingPolicy)) == ("v1.0.0", replace(good, slo=SLO))
    assert world.body("cache/digits", CachePolicy) == CachePolicy("digits", False, 2, 60)
    assert world.rollback.restored == ("version", "fallbacks", "max_attempts", "hedge", "cache")
    assert world.told[0].reason.startswith(
        "digits is rolled back from v2.0.0 to v1.0.0, "
        "served as when it proved itself (fallbacks, max_attempts, hedge, cache). "
    )


def test_where_only_the_version_changed_the_policy_is_left_alone() -> None:
    world = World()
    policy = world.serve(hedge=True, slo=SLO)
    world.mark("v1.0.0", Configuration(policy))
    world.activate("v2.0.0")
    world.burn("v2.0.0")
    assert world.kinds == ["IncidentRaised", "VersionRolledBack", "RollbackStarted", "IncidentRaised"]
    assert world.rollback.restored == ("version",)


@pytest.mark.parametrize(
    "changes",
    [{"slo": SLO}, {"auto_rollback": True, "slo": SLO}],
    ids=["another promise", "the same"],
)
def test_another_promise_is_nothing_to_put_back(changes: dict[str, Any]) -> None:
    world = World()
    world.mark("v1.0.0", Configuration())
    world.serve(**changes)
    world.burn("v1.0.0")
    assert (world.kinds, world.told[0].escalation_id.rpartition("/")[2]) == (["IncidentRaised"], "proven")


@pytest.mark.parametrize("check", ["drift_confirmed", "integrity"])
def test_what_no_policy_causes_puts_none_back(check: str) -> None:
    world, _ = served_otherwise()
    world.hear(validation(check, False))
    assert (world.kinds, world.told[0].escalation_id.rpartition("/")[2]) == ([], "proven")


def test_how_a_version_served_that_was_noted_before_this_release_is_not_known() -> None:
    world = World()
    world.mark("v1.0.0")
    world.serve(max_attempts=1)
    world.burn("v1.0.0")
    assert (world.kinds, world.told[0].escalation_id.rpartition("/")[2]) == (["IncidentRaised"], "proven")


def test_what_was_not_in_force_is_never_noted_as_good() -> None:
    """The Monitor counted rows under one policy, and before it is heard another one is set."""
    world = World()
    world.serve(max_attempts=1)
    world.mark("v1.0.0", Configuration(ServingPolicy("digits", max_attempts=3)))
    assert world.kinds == ["CommandRejected"]
    assert "other_policy" in (world.last[0].record.body or "")
    assert "good/digits" not in world.state.values


def test_a_policy_is_not_put_back_twice_within_the_cooldown() -> None:
    world, good = served_otherwise()
    world.burn("v1.0.0")
    world.serve(max_attempts=1)
    world.burn("v1.0.0", 2)
    assert (world.kinds, world.told[0].escalation_id.rpartition("/")[2]) == (["IncidentRaised"], "cooldown")
    world.hear(alert("v1.0.0", 3), COOLDOWN_US)
    assert world.body("serving/digits", ServingPolicy) == replace(good, slo=None)


def test_a_cache_that_is_put_back_serves_nothing_of_meanwhile() -> None:
    world = World()
    good = world.cache(60)
    world.mark("v1.0.0", Configuration(cache=good))
    world.cache(600, epoch=2)
    world.burn("v1.0.0")
    assert world.body("cache/digits", CachePolicy) == CachePolicy("digits", True, 3, 60)


def by_hand(world: World, version: str, configuration: Configuration) -> Effects:
    return world.command("ActivateVersion", "active/digits", Activation("digits", version, configuration))


def test_a_person_goes_back_to_what_proved_itself_all_of_it() -> None:
    world, good = served_otherwise()
    world.activate("v2.0.0")
    by_hand(world, "v1.0.0", Configuration(good))
    assert world.kinds == ["VersionRolledBack", "ServingPolicySet"]
    assert (world.active, world.body("serving/digits", ServingPolicy)) == ("v1.0.0", replace(good, slo=SLO))
    by_hand(world, "v1.0.0", Configuration(good))
    assert world.last == ()


def test_a_person_puts_only_the_policy_back_and_what_is_left_by_hand_is_struck() -> None:
    world, good = served_otherwise()
    by_hand(world, "v1.0.0", Configuration(good))
    assert world.kinds == ["ServingPolicySet"]
    world.activate("v2.0.0")
    world.mark("v2.0.0", Configuration(replace(good, slo=SLO)))
    by_hand(world, "v1.0.0", Configuration(good))
    assert world.kinds == ["VersionRolledBack", "KnownGoodStruck"]


@pytest.mark.parametrize(
    ("version", "configuration"),
    [
        ("v1.0.0", Configuration(ServingPolicy("digits", max_attempts=2))),
        ("v2.0.0", Configuration(ServingPolicy("digits", max_attempts=3, fallbacks=("v2.0.0",)))),
        ("v1.0.0", Configuration()),
    ],
)
def test_nobody_goes_back_to_what_never_proved_itself(version: str, configuration: Configuration) -> None:
    world, _ = served_otherwise()
    by_hand(world, version, configuration)
    assert world.kinds == ["CommandRejected"]
    assert "never_good" in (world.last[0].record.body or "")
