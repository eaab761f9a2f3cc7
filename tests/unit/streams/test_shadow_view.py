"""Shadows as memory has them: what was asked for, and what plans say."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from schemas.memory import MemoryEntry
from schemas.shadow import Shadow, ShadowPolicy
from streams.canonical import to_json
from streams.memory_view import MemoryView
from streams.shadow_view import planned_since, shadow_policy, shadows
from tests.support.frames import MODEL, memory, plan
from tests.support.shadowed import CANDIDATE, SERVING, SHADOWING, shadowed


def asked(policy: ShadowPolicy) -> MemoryView:
    view = memory(MODEL)
    entry = MemoryEntry(f"shadow/{policy.model}", 1, 41, to_json(policy), 5)
    return replace(view, entries=MappingProxyType({**view.entries, entry.key: entry}))


def test_what_was_asked_for_holds_until_it_is_taken_back() -> None:
    wanted = ShadowPolicy("digits", SHADOWING, 10)
    assert shadow_policy(asked(wanted), "digits") == wanted
    assert shadow_policy(asked(replace(wanted, percent=0)), "digits") is None
    assert shadow_policy(asked(wanted), "other") is None


def test_plans_say_who_is_shadowed() -> None:
    assert shadows(shadowed(30)) == {"digits": Shadow(SHADOWING, 30)}
    assert not shadows(memory(MODEL, CANDIDATE, plan("digits", (SERVING, 100))))
    assert not shadows(memory(MODEL))


def test_since_when_a_plan_is_effective() -> None:
    view = shadowed(sequence=77)
    assert planned_since(view, "digits") == view.entries["plan/digits"].sequence
