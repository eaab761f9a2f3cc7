"""How a model's rows are split, and the command that changes a canary's share."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from agents.orchestrator import COMMANDS
from infra.canary_control import CanaryControl, Split, canary_command, split_of
from infra.memory_command import AGENT
from infra.memory_control import ChangeRefusedError
from schemas.canary import Canary
from schemas.memory import MemoryCommand, MemoryEntry
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, MemoryView
from tests.support.frames import MODEL, memory, plan

ACTIVE = ActiveVersion("digits", "v1.0.0")
SECOND = replace(MODEL, version="v2.0.0")
CANARY = Canary("digits", "v2.0.0", 20)
ALONE = memory(MODEL, SECOND, ACTIVE, plan("digits", ("v1.0.0", 100)))
WAITS = memory(MODEL, SECOND, ACTIVE, plan("digits", ("v1.0.0", 100)), CANARY)
SERVES = memory(MODEL, SECOND, ACTIVE, plan("digits", ("v1.0.0", 80), ("v2.0.0", 20)), CANARY)
LEAVES = memory(
    MODEL, SECOND, ACTIVE, plan("digits", ("v1.0.0", 80), ("v2.0.0", 20)), replace(CANARY, weight_percent=0)
)


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        (ALONE, [("v1.0.0", "active", 100, 100)]),
        (WAITS, [("v1.0.0", "active", 80, 100), ("v2.0.0", "canary", 20, 0)]),
        (SERVES, [("v1.0.0", "active", 80, 80), ("v2.0.0", "canary", 20, 20)]),
        (LEAVES, [("v1.0.0", "active", 100, 80), ("v2.0.0", "taken back", 0, 20)]),
    ],
)
def test_the_split_says_what_is_wanted_and_what_is_planned(view: MemoryView, rows: list[Any]) -> None:
    found = split_of(view, "digits")
    assert [tuple(row.values())[1:] for row in found.rows()] == rows


def test_the_document_says_whether_the_canary_serves() -> None:
    waits, serves = (split_of(view, "digits").document(7)["canary"] for view in (WAITS, SERVES))
    assert (waits["state"], serves["state"]) == ("waits", "serves")
    assert split_of(ALONE, "digits").document(7) == {
        "model": "digits", "active_version": "v1.0.0", "canary": None, "serves_percent": {"v1.0.0": 100},
        "memory_sequence": 7,
    }  # fmt: skip
    assert split_of(memory(MODEL, ACTIVE), "digits") == Split("digits", "v1.0.0", None, {})


def test_an_unknown_model_has_no_split() -> None:
    with pytest.raises(ChangeRefusedError) as refused:
        split_of(ALONE, "nobody")
    assert refused.value.exit_code == 3


def test_the_command_is_for_the_version_that_stands() -> None:
    command = canary_command(CANARY, ALONE, 5)
    assert (command.key, command.kind, command.expected_version) == ("canary/digits", "SetCanary", 0)
    assert AGENT in COMMANDS[command.kind][0]
    assert from_json(Canary, command.body) == CANARY
    assert command.reason == "digits v2.0.0 is to serve 20 percent of the rows beside v1.0.0"
    back = canary_command(replace(CANARY, weight_percent=0), SERVES, 5)
    assert (back.reason, back.expected_version) == ("digits v2.0.0 is to serve no rows beside v1.0.0 any more", 1)


class Told(CanaryControl):
    """A connection whose memory is given: what it proposes, and each view that it waits through, stand in lists."""

    def __init__(self, *views: MemoryView) -> None:
        self.views = list(views)
        self.proposed: list[MemoryCommand] = []
        self.waited: list[str] = []

    @property
    def view(self) -> MemoryView:
        return self.views[0]

    async def propose(self, command: MemoryCommand, stands: Any, remedy: str, **_: Any) -> None:
        self.proposed.append(command)
        del self.views[0]
        assert stands(self.view)

    async def wait_for(self, stands: Any, what: str) -> MemoryView:
        self.waited.append(what)
        while not stands(self.view):
            del self.views[0]
        return self.view


async def test_a_share_is_asked_for_and_its_plan_waited_for() -> None:
    control = Told(ALONE, WAITS, SERVES)
    split = await control.set_share(CANARY)
    assert [each.kind for each in control.proposed] == ["SetCanary"]
    assert (split.shares, split.waits) == ({"v1.0.0": 80, "v2.0.0": 20}, False)
    assert control.waited == ["A plan that gives digits v2.0.0 20 %, once executors have loaded it,"]


async def test_what_stands_is_not_asked_for_again() -> None:
    control = Told(SERVES)
    await control.set_share(CANARY)
    none = Told(ALONE)
    await none.set_share(replace(CANARY, weight_percent=0))
    assert control.proposed == none.proposed == []


async def test_taken_back_is_waited_for_too_and_without_waiting_nothing_is() -> None:
    control = Told(SERVES, LEAVES, ALONE)
    split = await control.set_share(replace(CANARY, weight_percent=0))
    assert split.shares == {"v1.0.0": 100}
    control = Told(ALONE, WAITS)
    assert (await control.set_share(CANARY, wait_for_plan=False)).waits
    assert control.waited == []


async def test_one_that_is_taken_back_while_it_is_waited_for_ends_the_wait() -> None:
    taken = memory(MODEL, SECOND, ACTIVE, plan("digits", ("v1.0.0", 100)), replace(CANARY, weight_percent=0))
    split = await Told(WAITS, taken).set_share(CANARY)
    assert (split.canary, split.shares) == (None, {"v1.0.0": 100})


async def test_unknown_models_and_versions_are_refused_before_they_are_asked_for() -> None:
    for wanted, code in (
        (replace(CANARY, model="nobody"), "unknown_model"),
        (replace(CANARY, version="v9.0.0"), "unknown_version"),
    ):
        control = Told(ALONE)
        with pytest.raises(ChangeRefusedError) as refused:
            await control.set_share(wanted)
        assert (refused.value.code, refused.value.exit_code, control.proposed) == (code, 3, [])


def test_a_key_that_was_there_before_has_a_later_version() -> None:
    entry = MemoryEntry("canary/digits", 7, 9, to_json(replace(CANARY, weight_percent=0)), 5)
    view = replace(ALONE, entries=MappingProxyType({**ALONE.entries, "canary/digits": entry}))
    again = canary_command(CANARY, view, 5)
    assert again.expected_version == 7
    assert again.command_id != canary_command(CANARY, ALONE, 5).command_id
