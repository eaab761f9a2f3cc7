"""A tick's rows of an ordered model that must wait behind others of their key, and in which order all of them leave."""

from __future__ import annotations

import random

import pytest

from agents.admission import AdmissionPolicy, admit
from schemas.request import InferenceRequest, Tensor
from streams.columns import Columns
from streams.edge.late_rows import LateRow, late_row
from streams.edge.line_up import line_up
from streams.edge.request_ids import Span
from streams.edge.request_reader import RequestReader
from streams.edge.row_outlet import RowOutlet
from streams.edge.tick_part import TickPart
from streams.record_columns import RecordColumns
from tests.support.fake_kafka import record, turns, until
from tests.support.frames import MODEL, TOPIC_ID, memory
from tests.unit.streams.edge.test_late_rows import CODEC, PLACE, Bench
from tests.unit.streams.edge.test_request_batch import Met

VIEW = memory(MODEL)
ORDERED = {"digits"}


class Ticks(Bench):
    """An edge's ticks with late rows, for ordered ``digits``; what has 3 items is stored as a blob."""

    def __init__(self) -> None:
        super().__init__()
        self.outlet = RowOutlet(
            self.source,
            self.producer,
            CODEC,
            lambda: 3,
            TOPIC_ID,
            lambda: ORDERED,  # type: ignore[arg-type]
        )
        self.late._outlet = self.outlet
        self.offset = 0

    async def part(self, *asked: tuple[str | None, int]) -> TickPart:
        """Requests by routing key and items."""
        values = [
            CODEC.encode(
                "inference.requests",
                InferenceRequest(
                    f"r{self.offset + at}", "digits", (Tensor("x", "FP32", (items, 2), bytes(8 * items)),),
                    routing_key=key,
                ),
            )
            for at, (key, items) in enumerate(asked)
        ]  # fmt: skip
        records = [record(value, self.offset + at, time_ms=at) for at, value in enumerate(values)]
        reader = RequestReader(CODEC, lambda each: admit(each, VIEW, AdmissionPolicy()), None, lambda: 1)  # type: ignore[arg-type]
        reader._signatures._met = Met()
        batch = await reader.batch(RecordColumns.of("in", 0, records), self.offset, [], 1 << 20)
        span = Span(self.offset, self.offset + len(asked))
        self.offset = span.end
        return TickPart.of(self.source.progress(PLACE), batch, span)

    async def tick(self, *asked: tuple[str | None, int]) -> dict[tuple[int, int], LateRow]:
        """Do what the edge does with a tick; gives the rows that wait."""
        first, part = self.offset, await self.part(*asked)
        holder = self.holder(part.span.end)
        storing = [late_row(holder, part.row(at), b"id", 0) for at, (_, items) in enumerate(asked) if items == 3]
        away = {(0, late.row.offset - first): late for late in storing}
        self.late.lines.is_open = False
        line_up(part, holder, away, self.late, ORDERED)
        self.late.store(storing)
        rows = [row for at, row in sorted(part.rows.items()) if (0, at) not in away]
        await self.outlet.send_batch(part.batch, part.columnar(), rows, [holder])
        holder[0].finish(holder[1])
        await self.late.resume()
        return away

    def order(self) -> list[int]:
        """Offsets as they left."""
        return [offset for frame in self.frames("inference.admitted") for offset in Columns.of(frame).offsets.tolist()]


async def test_what_follows_a_late_row_of_its_key_waits_for_it_over_ticks() -> None:
    ticks = Ticks()
    ticks.blobs.gate.clear()
    away = await ticks.tick(("a", 1), ("a", 3), ("b", 1), ("a", 1), (None, 1))
    assert sorted(at for _, at in away) == [1, 3]
    assert ticks.order() == [0, 2, 4]
    assert sorted(at for _, at in await ticks.tick(("b", 2), ("a", 1))) == [1]
    assert ticks.order() == [0, 2, 4, 5]
    ticks.blobs.gate.set()
    await until(lambda: not ticks.late.lines)
    assert ticks.order() == [0, 2, 4, 5, 1, 3, 6]
    assert await ticks.tick(("a", 1)) == {}
    await turns()
    assert await ticks.committed() == 8


async def test_a_tick_without_late_rows_stays_in_columns() -> None:
    ticks = Ticks()
    part = await ticks.part(("a", 1), ("a", 2))
    away: dict[tuple[int, int], LateRow] = {}
    line_up(part, ticks.holder(2), away, ticks.late, ORDERED)
    assert (away, part.rows) == ({}, {})


async def test_a_rebalance_lets_the_lines_go() -> None:
    ticks = Ticks()
    ticks.blobs.gate.clear()
    await ticks.tick(("a", 3), ("a", 1))
    await ticks.source.on_partitions_revoked(())
    ticks.blobs.gate.set()
    await until(lambda: not ticks.late._tasks)
    await ticks.late.resume()
    assert (bool(ticks.late.lines), ticks.order()) == (False, [])


@pytest.mark.parametrize("seed", range(20))
async def test_rows_of_a_key_leave_in_the_order_of_their_offsets(seed: int) -> None:
    rng, ticks = random.Random(seed), Ticks()
    keys: list[str | None] = []
    for _ in range(8):
        if rng.random() < 0.5:
            ticks.blobs.gate.clear()
        asked = [(rng.choice(("a", "b", None)), rng.choice((1, 1, 2, 3))) for _ in range(rng.randint(1, 6))]
        keys += [key for key, _ in asked]
        await ticks.tick(*asked)
        ticks.blobs.gate.set() if rng.random() < 0.6 else None
    ticks.blobs.gate.set()
    await until(lambda: not ticks.late.lines and not ticks.late._tasks)
    left = ticks.order()
    assert sorted(left) == list(range(len(keys)))
    for key in ("a", "b"):
        mine = [offset for offset in left if keys[offset] == key]
        assert mine == sorted(mine)
