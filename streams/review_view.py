"""Readers of memory for approvals: the environment, who may sign, what waits, how it was decided. Pure.

Keys: ``environment`` (Environment), ``signer/<name>`` (Signer), ``review/<id>`` (OpenReview), ``decision/<id>``
(ReviewDecision, the last 256).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from schemas.environment import Environment, OpenReview, Signer
from schemas.review import ReviewDecision
from streams.canonical import from_json
from streams.memory_view import MemoryView, derived

ENVIRONMENT: Final = "environment"
_T = TypeVar("_T")


def environment(view: MemoryView) -> Environment | None:
    """The environment, or None where nobody declared one: then nothing waits for an approval."""
    entry = view.entries.get(ENVIRONMENT)
    if entry is None:
        return None
    return derived(view, (ENVIRONMENT,), lambda: from_json(Environment, entry.body, newer=True))


def signers(view: MemoryView) -> Mapping[str, Signer]:
    """Everybody who was ever registered, by name."""
    return _below(view, "signer/", Signer)


def signer_with(view: MemoryView, public_key: str) -> Signer | None:
    """Whose key it is, revoked ones too, or None."""
    return next((signer for signer in signers(view).values() if signer.public_key == public_key), None)


def open_reviews(view: MemoryView) -> Mapping[str, OpenReview]:
    """What waits for a decision, by review id, oldest first."""
    return _below(view, "review/", OpenReview)


def review_of(view: MemoryView, command_id: str) -> OpenReview | None:
    """The open review of a command, or None."""
    return next((each for each in open_reviews(view).values() if each.command.command_id == command_id), None)


def review_decision(view: MemoryView, review_id: str) -> ReviewDecision | None:
    """How a review was decided, or None while it is open (or so long ago that it was forgotten)."""
    return review_decisions(view).get(review_id)


def review_decisions(view: MemoryView) -> Mapping[str, ReviewDecision]:
    """How reviews were decided, by review id, oldest first."""
    return _below(view, "decision/", ReviewDecision)


def _below(view: MemoryView, prefix: str, cls: type[_T]) -> Mapping[str, _T]:
    def read() -> Mapping[str, _T]:
        found = sorted((e for e in view.entries.values() if e.key.startswith(prefix)), key=lambda entry: entry.sequence)
        return {entry.key[len(prefix) :]: from_json(cls, entry.body, newer=True) for entry in found}

    return derived(view, ("below", prefix), read)
