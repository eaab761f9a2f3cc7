"""What a person's roll-back goes to, and the command that asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.orchestrator import COMMANDS
from infra.memory_control import ChangeRefusedError
from infra.rollback_control import _is_planned, restored_by, rollback_command, target_of
from schemas.cache import CachePolicy
from schemas.known_good import Activation, Configuration, GoodVersion, KnownGood
from schemas.memory import MemoryEntry
from schemas.plan import Plan, VersionWeight
from schemas.serving import ServingPolicy, Slo
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, MemoryView, Rejection
from tests.support.frames import MODEL, T, memory

HEDGED = Configuration(ServingPolicy("digits", hedge=True))


def entry(key: str, body: object, version: int = 1) -> dict[str, MemoryEntry]:
    return {key: MemoryEntry(key, version, 9, to_json(body), T)}


def served(active: str, *good: tuple[str, Configuration | None], policy: ServingPolicy | None = None) -> MemoryView:
    """Memory in which a version is active and others proved themselves, the newest first."""
    view = memory(MODEL, ActiveVersion("digits", active))
    known = KnownGood("digits", tuple(GoodVersion(version, "", T, T, 200, how) for version, how in good))
    more = {} if policy is None else entry("serving/digits", policy)
    return MemoryView(view.sequence, entries={**view.entries, **entry("good/digits", known), **more})


@pytest.mark.parametrize(
    ("view", "version", "restored"),
    [
        (served("v3.0.0", ("v2.0.0", None), ("v1.0.0", None)), "v2.0.0", ("version",)),
        (served("v2.0.0", ("v2.0.0", None), ("v1.0.0", None)), "v1.0.0", ("version",)),
        (served("v2.0.0", ("v2.0.0", Configuration()), ("v1.0.0", HEDGED)), "v1.0.0", ("version", "hedge")),
        (served("v2.0.0", ("v2.0.0", HEDGED), ("v1.0.0", HEDGED)), "v2.0.0", ("hedge",)),
        (served("v1.0.0", ("v1.0.0", None), ("v2.0.0", None)), "v2.0.0", ("version",)),
        (
            served("v2.0.0", ("v1.0.0", Configuration()), policy=ServingPolicy("digits", max_attempts=1)),
            *("v1.0.0", ("version", "max_attempts")),
        ),
    ],
)
def test_it_goes_to_what_proved_itself_last_and_does_not_serve(
    view: MemoryView, version: str, restored: tuple[str, ...]
) -> None:
    target = target_of(view, "digits")
    assert (target.version, restored_by(view, "digits", target)) == (version, restored)


@pytest.mark.parametrize(
    "good", [(), (("v2.0.0", None),), (("v2.0.0", Configuration(ServingPolicy("digits", slo=Slo(error_ppm=10)))),)]
)
def test_without_another_good_one_it_says_what_can_be_done(good: tuple[tuple[str, Configuration | None], ...]) -> None:
    with pytest.raises(ChangeRefusedError) as refused:
        target_of(served("v2.0.0", *good), "digits")
    assert refused.value.exit_code == 3
    assert "No other version of digits than v2.0.0 proved itself in service" in str(refused.value)


def test_an_unknown_model_is_said_to_be_unknown() -> None:
    with pytest.raises(ChangeRefusedError) as refused:
        target_of(served("v2.0.0"), "other")
    assert refused.value.code == "unknown_model"


def test_the_command_names_all_that_is_put_back() -> None:
    view = served("v2.0.0", ("v1.0.0", HEDGED))
    command = rollback_command(target_of(view, "digits"), "digits", view, 5)
    assert (command.kind, command.key, command.expected_version) == ("ActivateVersion", "active/digits", 1)
    assert command.agent in COMMANDS[command.kind][0]
    assert from_json(Activation, command.body) == Activation("digits", "v1.0.0", HEDGED)
    assert command.reason == "digits is to be served by v1.0.0 as when it proved itself: version, hedge"


def test_the_same_roll_back_from_another_policy_is_another_command() -> None:
    """The active version's place in memory does not move, so its version alone would make the two one."""
    good = ("v1.0.0", HEDGED)
    views = [served("v1.0.0", good, policy=ServingPolicy("digits", max_attempts=tries)) for tries in (1, 3)]
    later = replace(views[1], entries={**views[1].entries, "serving/digits": MemoryEntry(
        "serving/digits", 3, 12, to_json(ServingPolicy("digits", max_attempts=3)), T
    )})  # fmt: skip
    ids = {rollback_command(target_of(view, "digits"), "digits", view, 5).command_id for view in (views[0], later)}
    assert len(ids) == 2


def test_what_was_refused_before_is_asked_under_another_id() -> None:
    view = served("v2.0.0", ("v1.0.0", HEDGED))
    first = rollback_command(target_of(view, "digits"), "digits", view, 5).command_id
    refused = entry(f"rejections/{first}", Rejection(first, "never_good", "It did not."))
    after = MemoryView(view.sequence, entries={**view.entries, **refused})
    assert rollback_command(target_of(after, "digits"), "digits", after, 5).command_id != first


def test_it_waits_for_a_plan_that_serves_so() -> None:
    plan = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000)
    view = served("v1.0.0", policy=ServingPolicy("digits", hedge=True))
    assert not _is_planned(view, "digits", "v1.0.0")
    for effective, planned in ((plan, False), (replace(plan, hedge=True), True)):
        both = MemoryView(view.sequence, entries={**view.entries, **entry("plan/digits", effective)})
        assert _is_planned(both, "digits", "v1.0.0") == planned
        assert not _is_planned(both, "digits", "v2.0.0")


def test_a_cache_counts_as_how_it_is_served() -> None:
    view = served("v1.0.0", ("v1.0.0", Configuration(cache=CachePolicy("digits", True, 1, 60))))
    assert restored_by(view, "digits", target_of(view, "digits")) == ("cache",)
