"""What readers of memory find of approvals."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from schemas.environment import Environment, OpenReview
from schemas.memory import MemoryEntry
from schemas.review import ReviewDecision
from streams.canonical import to_json
from streams.memory_view import MemoryView
from streams.review_view import environment, open_reviews, review_decision, review_of, signer_with, signers
from tests.support.samples import SAMPLES
from tests.support.signers import activation, signer


def view_of(**bodies: Any) -> MemoryView:
    """Memory with these bodies, in their order; ``__`` stands for the slash."""
    entries = {
        (key := name.replace("__", "/")): MemoryEntry(key, 1, number, to_json(body), number)
        for number, (name, body) in enumerate(bodies.items(), start=1)
    }
    return replace(MemoryView(sequence=len(entries)), entries=MappingProxyType(entries))


def test_nothing_is_known_of_an_empty_memory() -> None:
    view = MemoryView()
    assert environment(view) is None
    assert (dict(signers(view)), dict(open_reviews(view)), review_decision(view, "r1")) == ({}, {}, None)


def test_what_stands_is_found() -> None:
    first = OpenReview(SAMPLES["ReviewRequest"], activation())
    second = OpenReview(SAMPLES["ReviewRequest"], activation(command_id="a2"))
    decision: ReviewDecision = SAMPLES["ReviewDecision"]
    production = Environment("production", (), False)
    view = view_of(
        environment=production, signer__bob=signer("bob"), signer__ann=signer("ann"),
        review__r9=first, review__r10=second, decision__r3=decision,
    )  # fmt: skip
    assert environment(view) == production
    assert list(signers(view)) == ["bob", "ann"]
    assert signer_with(view, signer("ann").public_key) == signer("ann")
    assert signer_with(view, "ab") is None
    assert list(open_reviews(view)) == ["r9", "r10"]
    assert (review_of(view, "a2"), review_of(view, "a3")) == (second, None)
    assert (review_decision(view, "r3"), review_decision(view, "r9")) == (decision, None)
