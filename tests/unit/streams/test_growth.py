"""Growth: results first and requests last, never fewer, and only what is left to do."""

from __future__ import annotations

import asyncio

import pytest

from streams import growth
from streams.connection import Connection, TimedOutError
from streams.growth import ORDER, GrowthRefusedError, Step, TopicMissingError, grow, steps

TWO = {**dict.fromkeys(ORDER, 2), "inference.routed": 1}


def test_requests_are_last_and_lanes_first() -> None:
    plan = steps(TWO, partitions=4, lanes=3)
    assert [step.topic for step in plan] == [
        *("inference.routed", "inference.results", "inference.ledger-checkpoints"),
        *("inference.executed", "inference.retries", "inference.admitted", "inference.requests"),
    ]
    assert plan[0] == Step("inference.routed", 1, 3)
    assert {(step.before, step.after) for step in plan[1:]} == {(2, 4)}


def test_an_interrupted_growth_goes_on_where_it_ended() -> None:
    halfway = {**TWO, "inference.results": 4, "inference.ledger-checkpoints": 4}
    assert [step.topic for step in steps(halfway, partitions=4, lanes=None)] == list(ORDER[2:])
    assert steps(TWO, partitions=2, lanes=1) == ()


@pytest.mark.parametrize(("partitions", "lanes", "topic"), [(1, None, "results"), (None, 0, "routed")])
def test_fewer_are_refused_with_a_sentence(partitions: int | None, lanes: int | None, topic: str) -> None:
    with pytest.raises(GrowthRefusedError, match=f"inference.{topic} has . partitions; . would take some away"):
        steps(TWO, partitions=partitions, lanes=lanes)


def test_one_topic_ahead_of_the_wish_is_refused_before_anything_is_done() -> None:
    with pytest.raises(GrowthRefusedError, match="inference.requests has 8"):
        steps({**TWO, "inference.requests": 8}, partitions=4, lanes=None)


def test_a_missing_topic_is_named() -> None:
    with pytest.raises(TopicMissingError, match=r"inference\.results does not exist.*isos topics provision"):
        steps({}, partitions=2, lanes=None)


def test_requests_wait_for_every_process_to_know_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int] | str] = []

    async def add(_connection: Connection, name: str, count: int) -> None:
        done.append((name, count))

    monkeypatch.setattr(growth, "add_partitions", add)
    plan = steps(TWO, partitions=3, lanes=None)
    asyncio.run(grow(Connection("127.0.0.1:1"), plan, settle_s=0.0, report=done.append))
    waited = next(at for at, each in enumerate(done) if isinstance(each, str) and each.startswith("waiting"))
    assert done.index(("inference.admitted", 3)) < waited < done.index(("inference.requests", 3))


def test_a_failed_step_ends_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    async def add(_connection: Connection, name: str, _count: int) -> None:
        if name == "inference.executed":
            raise TimedOutError("adding partitions", 15.0)
        done.append(name)

    monkeypatch.setattr(growth, "add_partitions", add)
    with pytest.raises(TimedOutError):
        asyncio.run(grow(Connection("127.0.0.1:1"), steps(TWO, partitions=3, lanes=None), settle_s=0.0))
    assert done == ["inference.results", "inference.ledger-checkpoints"]
