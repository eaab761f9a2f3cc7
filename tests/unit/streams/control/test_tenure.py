"""Taking over and rounds on an in-memory log: whatever fails, each input counts once and each effect reaches once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.journal import JournalEntry
from streams.agent import AgentSpec
from streams.codec import Codec, SchemaIds
from streams.control.effect_id import SeenEffects, effect_id
from streams.control.journal import TICK_INPUT, Input, RecordCodec
from streams.control.tenure import MAX_ROUND, TAIL, JournalPlace, Tenure
from streams.errors import FencedError, InvariantError, RetriableError
from tests.support.counting_agent import Count, PlainCodec, decide
from tests.support.partitions import Faults, MemoryPartitions

SPEC = AgentSpec("count", ("in",), ("out",), lambda params: Count(), decide, tick_ms=1, journaled=True, params="out")
PLACE = JournalPlace("journal", 0)


class MemoryOutlet:
    """Effects as a receiver sees them; every ``failing``-th send fails after half of its effects."""

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.sends = 0
        self.received: list[tuple[str, bytes]] = []

    async def open(self) -> None:
        return

    async def send(self, entries: Sequence[JournalEntry]) -> None:
        self.sends += 1
        effects = [(effect_id(e, at), f.value or b"") for e in entries for at, f in enumerate(e.effects)]
        if self.failing and self.sends % self.failing == 0:
            self.received.extend(effects[: len(effects) // 2])
            raise RetriableError("half of it was sent")
        self.received.extend(effects)

    async def close(self) -> None:
        return

    def once(self) -> list[bytes]:
        """Values after the receiver dropped what it had seen."""
        seen, kept = SeenEffects(), []
        for source, value in self.received:
            if not seen.is_repeat(source, "out/0"):
                seen.note(source, "out/0")
                kept.append(value)
        return kept


def tenure(partitions: MemoryPartitions, outlet: MemoryOutlet, codec: RecordCodec | None = None) -> Tenure:
    return Tenure(SPEC, codec or PlainCodec(), partitions, PLACE, outlet)


def number(offset: int, value: int = 1) -> Input:
    return Input("in", 0, offset, b"", str(value).encode())


async def test_a_successor_goes_on_where_the_predecessor_stood() -> None:
    partitions, outlet = MemoryPartitions(), MemoryOutlet()
    first = tenure(partitions, outlet)
    await first.take_over()
    await first.round([number(0, 5), number(1, 6)], 10)
    second = tenure(partitions, outlet)
    await second.take_over()
    assert second.agent.state == Count(2, 11)
    await second.round([number(0, 5), number(1, 6), number(2, 7)], 20)
    assert outlet.once() == [b"5 5", b"6 11", b"7 18"]
    with pytest.raises(FencedError):
        await first.round([number(2, 7)], 20)
    assert outlet.once() == [b"5 5", b"6 11", b"7 18"]


async def test_a_refused_write_is_counted_and_sends_nothing() -> None:
    partitions, outlet, refused = MemoryPartitions(), MemoryOutlet(), []
    first = Tenure(SPEC, PlainCodec(), partitions, PLACE, outlet, refused.append)
    await first.take_over()
    await tenure(partitions, MemoryOutlet()).take_over()
    with pytest.raises(FencedError):
        await first.round([number(0)], 10)
    assert [type(error) for error in refused] == [FencedError]
    assert outlet.received == []


async def test_a_kill_between_journal_and_effects_is_made_good() -> None:
    partitions = MemoryPartitions()
    broken = MemoryOutlet(failing=2)
    first = tenure(partitions, broken)
    await first.take_over()
    with pytest.raises(RetriableError):
        await first.round([number(0), number(1), number(2), number(3)], 10)
    broken.failing = 0
    await tenure(partitions, broken).take_over()
    assert broken.once() == [b"1 1", b"1 2", b"1 3", b"1 4"]


async def test_a_round_has_a_limit_and_needs_a_claim() -> None:
    one = tenure(MemoryPartitions(), MemoryOutlet())
    with pytest.raises(InvariantError, match="no claim"):
        await one.round([number(0)], 1)
    one = tenure(MemoryPartitions(), MemoryOutlet())
    await one.take_over()
    with pytest.raises(InvariantError):
        await one.round([TICK_INPUT] * (MAX_ROUND + 1), 1)


async def test_the_snapshot_is_found_however_far_back() -> None:
    partitions, outlet = MemoryPartitions(), MemoryOutlet()
    one = tenure(partitions, outlet)
    await one.take_over()
    rounds = (TAIL * 2) // 100
    for at in range(rounds):
        await one.round([number(at * 100 + n) for n in range(100)], at)
    # Markers of many claims stand between the tail and the last entries.
    partitions.log.skip("journal", 0, TAIL * 5)
    two = tenure(partitions, outlet)
    await two.take_over()
    assert two.agent.state == one.agent.state == Count(rounds * 100, rounds * 100)
    assert two.agent.cursors == {"in/0": rounds * 100 - 1}


async def test_each_take_over_leaves_a_snapshot_so_that_old_entries_may_go() -> None:
    partitions, outlet = MemoryPartitions(), MemoryOutlet()
    one = tenure(partitions, outlet)
    await one.take_over()
    assert partitions.log.end_offset("journal", 0) == 1  # nothing but the claim's marker
    await one.round([number(0, 5)], 10)
    await tenure(partitions, outlet).take_over()
    begin = partitions.log.end_offset("journal", 0) - 1
    partitions.first = begin  # retention removed everything else
    two = tenure(partitions, outlet)
    await two.take_over()
    assert two.agent.state == Count(1, 5)


async def test_entries_pass_the_real_codec() -> None:
    class Mixed(PlainCodec):
        """The journal as it is on a broker, numbers as text."""

        codec = Codec(SchemaIds.local())

        def encode(self, topic: str, record: object) -> bytes:
            return self.codec.encode(topic, record) if topic == "control.journal" else super().encode(topic, record)

        def decode(self, topic: str, value: bytes | None) -> object:
            return self.codec.decode(topic, value) if topic == "control.journal" else super().decode(topic, value)

    partitions, outlet = MemoryPartitions(), MemoryOutlet()
    one = tenure(partitions, outlet, Mixed())
    await one.take_over()
    await one.round([number(0, 3), TICK_INPUT], 10)
    two = tenure(partitions, outlet, Mixed())
    await two.take_over()
    assert two.agent.state == Count(1, 3, 1)


def test_our_agents_have_their_places() -> None:
    assert JournalPlace.of("planner") == JournalPlace("isos.control.journal.v1", 1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 4),
    st.sets(st.integers(1, 60), max_size=8),
    st.sets(st.integers(1, 60), max_size=8),
    st.lists(st.integers(1, 7), min_size=1, max_size=12),
)
async def test_once_whatever_fails(failing: int, lost: set[int], unknown: set[int], sizes: list[int]) -> None:
    """Journal writes that fail or stay unknown, sends that break in the middle, inputs delivered again after each."""
    partitions, outlet = MemoryPartitions(), MemoryOutlet(failing if failing > 1 else 0)
    total = sum(sizes)
    acknowledged, failures = 0, 0
    partitions.faults.lost, partitions.faults.unknown = lost, unknown
    while acknowledged < total:
        one = tenure(partitions, outlet)
        try:
            await one.take_over()
            for size in sizes:
                inputs = [number(n) for n in range(acknowledged, min(acknowledged + size, total))]
                await one.round(inputs, 1)
                acknowledged += len(inputs)
        except RetriableError:
            failures += 1
            assert failures < 200
    outlet.failing = 0
    partitions.faults = Faults()
    await tenure(partitions, outlet).take_over()
    assert outlet.once() == [f"1 {n}".encode() for n in range(1, total + 1)]
