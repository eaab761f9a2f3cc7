"""Dataclass to dict and back."""

from __future__ import annotations

from dataclasses import dataclass

from streams.convert import from_dict, to_dict
from tests.support.samples import SAMPLES


@dataclass(frozen=True, slots=True)
class One:
    """A record of a single field."""

    names: tuple[str, ...]


def test_a_single_field() -> None:
    assert to_dict(One)(One(("a",))) == {"names": ["a"]}
    assert from_dict(One)({"names": ["a"]}) == One(("a",))


def test_every_sample_comes_back() -> None:
    for record in SAMPLES.values():
        cls: type = type(record)
        assert from_dict(cls)(to_dict(cls)(record)) == record


def test_order_of_the_dict_does_not_matter() -> None:
    plan = SAMPLES["PlanProposal"]
    cls: type = type(plan)
    flipped = dict(reversed(list(to_dict(cls)(plan).items())))
    assert from_dict(cls)(flipped) == plan
