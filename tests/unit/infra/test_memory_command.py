"""The same command twice is one; one that was refused before is another one."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from infra.memory_command import AGENT, command_of
from schemas.environment import Environment, OpenReview
from schemas.memory import MemoryEntry
from streams.canonical import to_json
from streams.memory_view import MemoryView, Rejection
from tests.support.samples import SAMPLES
from tests.support.signers import PRODUCTION

STANDING = MemoryEntry("cache/digits", 3, 8, "{}", 0)


def memory(*entries: MemoryEntry) -> MemoryView:
    return replace(MemoryView(), sequence=9, entries=MappingProxyType({each.key: each for each in entries}))


def test_a_command_is_for_the_version_that_stands_and_has_an_id_of_its_content() -> None:
    first, again = (command_of("Set", "cache/digits", "{}", "why", memory(STANDING), at) for at in (1, 2))
    assert (first.expected_version, first.agent, first.command_id) == (3, AGENT, again.command_id)
    assert first.command_id.startswith("cache-")
    assert command_of("Set", "cache/digits", "{}", "why", memory(), 1).expected_version == 0
    others = [
        command_of("Set", *given, "why", memory(STANDING), 1) for given in (("cache/x", "{}"), ("cache/digits", "[]"))
    ]
    assert len({first.command_id, *(each.command_id for each in others)}) == 3


def test_the_answer_to_a_refused_command_is_not_that_to_its_repetition() -> None:
    first = command_of("Set", "cache/digits", "{}", "why", memory(STANDING), 1)
    refusal = to_json(Rejection(first.command_id, "code", "sentence"))
    refused = memory(STANDING, MemoryEntry(f"rejections/{first.command_id}", 1, 9, refusal, 0))
    assert command_of("Set", "cache/digits", "{}", "why", refused, 2).command_id != first.command_id


@pytest.mark.parametrize(("environment", "policy", "is_another"), [
    (PRODUCTION, "development", True),
    (PRODUCTION, "people", False),
    (Environment(), "development", False),
])  # fmt: skip
def test_what_a_sandbox_did_not_answer_any_more_is_asked_anew(
    environment: Environment, policy: str, is_another: bool
) -> None:
    """Nobody can approve it where authors sign, and its id would be a repetition until it has expired."""
    first = command_of("Set", "cache/digits", "{}", "why", memory(STANDING), 1)
    review = to_json(OpenReview(replace(SAMPLES["ReviewRequest"], review_id="r9", policy=policy), first))
    entries = MemoryEntry("review/r9", 1, 9, review, 0), MemoryEntry("environment", 1, 7, to_json(environment), 0)
    second = command_of("Set", "cache/digits", "{}", "why", memory(STANDING, *entries), 2)
    assert (second.command_id != first.command_id) == is_another
