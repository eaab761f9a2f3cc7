"""Only what ran by today's policy, as the version that memory knows, is cached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.frame import InferenceFrame
from schemas.model import ModelVersion
from streams.cache.fill import fills
from streams.cache.values import Seal
from streams.memory_view import MemoryView, cache_scope
from tests.support.cached import POLICY, digests_of, entry, executed
from tests.support.frames import MODEL, T, frame, memory, row

VIEW = memory(MODEL, replace(MODEL, version="v2.0.0"), POLICY, sequence=9)
SEAL = Seal(bytes(32))


def ran(*, sequence: int = 3, version: str = "v1.0.0") -> InferenceFrame:
    routed = replace(frame([row(1), row(2)]), memory_sequence=sequence)
    return replace(executed(routed, version=version), input_digests=digests_of(routed))


def test_answers_are_cached_under_the_version_that_ran() -> None:
    made = fills(ran(version="v2.0.0"), VIEW, T)
    scope = cache_scope(VIEW, "digits", "v2.0.0")
    assert scope is not None
    assert [field[:16] for field, _ in made] == [scope.scope] * 2
    assert [SEAL.open(field, SEAL.close(field, payload)) for field, payload in made] == [entry(1.0), entry(2.0)]


@pytest.mark.parametrize(
    ("view", "given"),
    [
        (VIEW, replace(ran(), input_digests=None)),
        (memory(MODEL), ran()),
        (memory(MODEL, replace(POLICY, enabled=False)), ran()),
        (memory(replace(MODEL, deterministic=False), POLICY), ran()),
        (VIEW, ran(sequence=2)),  # routed before the policy stood
        (VIEW, ran(version="v3.0.0")),
        (memory(replace(MODEL, digest="cd" * 32), POLICY), ran()),
    ],
)
def test_nothing_is_cached(view: MemoryView, given: InferenceFrame) -> None:
    assert fills(given, view, T) == ()


def test_a_fallback_to_another_version_is_cached_as_that_version() -> None:
    """The digest of the input says nothing of the version that was wanted."""
    other: ModelVersion = replace(MODEL, version="v2.0.0", postprocess=("softmax",))
    view = memory(MODEL, other, POLICY, sequence=9)
    ((first, _), _), ((second, _), _) = fills(ran(), view, T), fills(ran(version="v2.0.0"), view, T)
    assert first[16:] == second[16:]
    assert first[:16] != second[:16]
