"""Executors of a class share its lanes and nothing else; a rebalance forgets what was under way."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from executors.lanes import ROUTED, Lanes, assignor, planned_versions
from schemas.canary import Canary
from schemas.plan import SLOW
from tests.support.fake_kafka import FakeConsumer
from tests.support.frames import MODEL, memory, plan


def shares(num_lanes: int, num_slow: int, members: int, *, slow: bool) -> list[list[int]]:
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(num_lanes)) if topic == ROUTED else None)
    kind = assignor(num_slow, slow=slow)
    given = kind.assign(cluster, {f"member-{at}": kind.metadata([ROUTED]) for at in range(members)})
    return [
        [number for topic, numbers in given[name].assignment for number in numbers if topic == ROUTED]
        for name in sorted(given)
    ]


@pytest.mark.parametrize(
    ("slow", "members", "expected"),
    [
        (False, 1, [[0, 1, 2]]),
        (False, 2, [[0, 2], [1]]),
        (True, 1, [[3, 4]]),
        (True, 3, [[3], [4], []]),
    ],
)
def test_members_share_the_lanes_of_their_class(slow: bool, members: int, expected: list[list[int]]) -> None:
    assert shares(5, 2, members, slow=slow) == expected


def test_without_slow_lanes_the_fast_group_has_all() -> None:
    assert shares(2, 0, 1, slow=False) == [[0, 1]]
    assert shares(1, 1, 1, slow=False) == [[0]]
    assert shares(1, 1, 1, slow=True) == [[]]


def test_the_classes_speak_of_themselves_by_name() -> None:
    assert (assignor(1, slow=False).name, assignor(1, slow=True).name) == ("roundrobin", "isos-slow-lanes")


def test_an_executor_wants_what_is_planned_for_its_lanes() -> None:
    known = [replace(MODEL, model=name) for name in ("fast-a", "slow-a", "unplanned")]
    plans = (plan("fast-a", ("v1.0.0", 100)), plan("slow-a", ("v1.0.0", 60), ("v2.0.0", 40), lane=SLOW))
    view = memory(*known, *plans)
    assert list(planned_versions(view, 2, 1, slow=False)) == [("fast-a", "v1.0.0")]
    assert list(planned_versions(view, 2, 1, slow=True)) == [("slow-a", "v1.0.0"), ("slow-a", "v2.0.0")]
    assert len(list(planned_versions(view, 1, 1, slow=False))) == 3


def test_fallbacks_are_wanted_before_they_are_needed() -> None:
    shared = replace(plan("fast-a", ("v2.0.0", 100)), fallbacks=("v1.0.0",))
    view = memory(replace(MODEL, model="fast-a"), shared)
    assert list(planned_versions(view, 2, 1, slow=False)) == [("fast-a", "v2.0.0"), ("fast-a", "v1.0.0")]


def test_a_canary_is_wanted_before_a_plan_gives_it_rows() -> None:
    view = memory(MODEL, plan("digits", ("v1.0.0", 100)), Canary("digits", "v2.0.0", 5))
    assert list(planned_versions(view, 2, 0, slow=False)) == [("digits", "v1.0.0"), ("digits", "v2.0.0")]


async def test_a_rebalance_forgets() -> None:
    forgotten: list[int] = []
    consumer: Any = FakeConsumer()
    lanes = Lanes(consumer, lambda: forgotten.append(lanes.generation))
    await lanes.on_partitions_revoked(set())
    assert forgotten == [1]
