"""The batcher: every row comes back once, priorities first, late rows expire, models share the time by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from executors.batcher import Batcher
from executors.profile import Profile
from executors.row_queue import AGE_US, Batch, BatchKey
from executors.row_slice import RowSlice

FAR = 1 << 50


def key(model: str = "m") -> BatchKey:
    return BatchKey(model, "v1.0.0", (("x", (4,), 4),))


def add(
    batcher: Batcher,
    model: str = "m",
    frame: str = "f",
    items: tuple[int, ...] = (1,),
    priorities: tuple[int, ...] = (),
    deadlines: tuple[int, ...] = (),
    segment: int = 0,
    now_us: int = 0,
) -> list[tuple[str, int, int]]:
    n = len(items)
    refused = batcher.add(
        key(model),
        frame,
        segment,
        bytes(priorities or (5,) * n),
        list(items),
        list(deadlines or (FAR,) * n),
        now_us=now_us,
    )
    return rows(refused)


def profiles(
    *models: str, cap: int = 8, fixed: float = 100.0, per_item: float = 10.0
) -> dict[tuple[str, str], Profile]:
    return {(model, "v1.0.0"): Profile(fixed, per_item, cap) for model in models}


def rows(slices: Sequence[RowSlice]) -> list[tuple[str, int, int]]:
    return [(s.frame, s.segment, row) for s in slices for row in range(s.first_row, s.first_row + s.num_rows)]


def taken(batch: Batch | None) -> list[tuple[str, int, int]]:
    assert batch is not None
    return rows(batch.slices)


def test_nothing_waits() -> None:
    assert Batcher().next_batch(0, profiles("m")) is None


def test_rows_of_two_frames_ride_together() -> None:
    batcher = Batcher()
    add(batcher, frame="f", items=(1, 1))
    add(batcher, frame="g", items=(1,))
    batch = batcher.next_batch(0, profiles("m"))
    assert taken(batch) == [("f", 0, 0), ("f", 0, 1), ("g", 0, 0)]
    assert batch is not None
    assert batch.num_items == 3
    assert batcher.queued_items == 0


def test_a_slice_is_cut_at_the_cap_and_keeps_its_place() -> None:
    batcher = Batcher()
    add(batcher, items=(3, 3, 3))
    first = batcher.next_batch(0, profiles("m"))
    assert taken(first) == [("f", 0, 0), ("f", 0, 1)]
    second = batcher.next_batch(0, profiles("m"))
    assert second is not None
    assert taken(second) == [("f", 0, 2)]
    assert second.slices[0].first_item == 6
    assert second.slices[0].num_items == 3


def test_a_row_above_the_cap_is_a_batch_by_itself() -> None:
    batcher = Batcher()
    add(batcher, items=(1, 100, 100, 1))
    sizes = []
    while (batch := batcher.next_batch(0, profiles("m"))) is not None:
        sizes.append(batch.num_items)
    assert sizes == [1, 100, 100, 1]


def test_urgent_rows_first() -> None:
    batcher = Batcher()
    add(batcher, frame="f", items=(1, 1, 1), priorities=(5, 0, 5))
    add(batcher, frame="g", items=(1,), priorities=(0,))
    batch = batcher.next_batch(0, profiles("m", cap=3))
    assert taken(batch) == [("f", 0, 1), ("g", 0, 0), ("f", 0, 0)]


def test_late_rows_come_back_as_expired_and_the_others_run() -> None:
    batcher = Batcher()
    add(batcher, items=(1, 2, 1, 1), deadlines=(FAR, 1100, FAR, 1140))
    batch = batcher.next_batch(1000, profiles("m"))  # a batch of 5 items is done at 1150
    assert batch is not None
    assert rows(batch.expired) == [("f", 0, 1), ("f", 0, 3)]
    assert rows(batch.slices) == [("f", 0, 0), ("f", 0, 2)]
    assert batch.slices[1].first_item == 3
    assert batcher.queued_items == 0


def test_a_batch_may_hold_expired_rows_only() -> None:
    batcher = Batcher()
    add(batcher, deadlines=(5,))
    batch = batcher.next_batch(10, profiles("m"))
    assert batch is not None
    assert batch.slices == []
    assert rows(batch.expired) == [("f", 0, 0)]


def test_a_version_without_a_profile_waits_and_can_be_dropped() -> None:
    batcher = Batcher()
    add(batcher, "a")
    add(batcher, "b", items=(1, 1))
    assert taken(batcher.next_batch(0, profiles("b"))) == [("f", 0, 0), ("f", 0, 1)]
    assert batcher.next_batch(0, profiles("b")) is None
    assert batcher.waiting() == {key("a"): 1}
    assert rows(batcher.drop("a", "v1.0.0")) == [("f", 0, 0)]
    assert batcher.queued_items == 0


def test_time_is_shared_by_weight_not_by_batches() -> None:
    batcher = Batcher(max_items=50_000)
    for _ in range(4000):
        add(batcher, "fast", items=(1,) * 8)
        add(batcher, "slow", items=(1,) * 8)
        add(batcher, "heavy", items=(1,) * 8)
    known = {
        ("fast", "v1.0.0"): Profile(100, 0, 8),
        ("slow", "v1.0.0"): Profile(20_000, 0, 8),
        ("heavy", "v1.0.0"): Profile(500, 0, 8, weight=2.0),
    }
    spent: Counter[str] = Counter()
    while sum(spent.values()) < 1_000_000:
        batch = batcher.next_batch(0, known)
        assert batch is not None
        spent[batch.key.model] += int(known[batch.key.model, "v1.0.0"].fixed_us)
    total = sum(spent.values())
    assert abs(spent["fast"] / total - 0.25) < 0.05
    assert abs(spent["slow"] / total - 0.25) < 0.05
    assert abs(spent["heavy"] / total - 0.5) < 0.05


def test_a_queue_alone_owes_nothing_for_the_time_that_nobody_wanted() -> None:
    batcher = Batcher()
    for _ in range(100):
        add(batcher, "a", items=(1,) * 8)
    for _ in range(50):
        batcher.next_batch(0, profiles("a", fixed=1_000.0))
    add(batcher, "b", items=(1,) * 80)
    served = [next_of(batcher, profiles("a", "b", fixed=1_000.0)) for _ in range(6)]
    assert served.count("a") in (2, 3, 4)


def next_of(
    batcher: Batcher, known: dict[tuple[str, str], Profile], now_us: int = 0, limit: float = inf
) -> str:  # fmt: skip
    batch = batcher.next_batch(now_us, known, limit)
    assert batch is not None
    return batch.key.model


def test_a_class_goes_before_the_next_whatever_its_model_has_used() -> None:
    batcher = Batcher()
    for _ in range(3):
        add(batcher, "flood", items=(1,) * 8, priorities=(9,) * 8)
        add(batcher, "urgent", items=(1,) * 8, priorities=(0,) * 8)
    known = profiles("flood", "urgent", fixed=50_000.0)
    assert [next_of(batcher, known) for _ in range(6)] == ["urgent"] * 3 + ["flood"] * 3


def test_a_queue_stands_in_the_class_of_its_most_urgent_row() -> None:
    batcher = Batcher()
    add(batcher, "a", items=(1,), priorities=(3,))
    add(batcher, "b", items=(1,), priorities=(9,))
    add(batcher, "b", frame="g", items=(1,), priorities=(2,))
    batch = batcher.next_batch(0, profiles("a", "b"))
    assert taken(batch) == [("g", 0, 0), ("f", 0, 0)]  # whoever is there rides along


def test_who_waits_rises_until_it_shares_the_time_with_class_0() -> None:
    batcher = Batcher()
    add(batcher, "old", items=(1,), priorities=(9,), now_us=0)
    known = profiles("old", "urgent", fixed=2_000.0, cap=1)
    add(batcher, "urgent", items=(1,) * 1000, priorities=(0,) * 1000, now_us=0)
    now = 0
    while (model := next_of(batcher, known, now)) == "urgent":
        now += AGE_US // 10
        add(batcher, "urgent", items=(1,), priorities=(0,), now_us=now)
    assert model == "old"
    assert 8 * AGE_US < now < 10 * AGE_US


def test_what_is_busy_or_too_long_waits_and_the_others_go_on() -> None:
    batcher = Batcher()
    for model in ("busy", "short", "long"):
        add(batcher, model, items=(1,) * 20)
    known = profiles("busy", "short", fixed=100.0) | profiles("long", fixed=5_000.0)
    batcher.busy["busy", "v1.0.0"] = 0
    assert [next_of(batcher, known, limit=2_000.0) for _ in range(3)] == ["short"] * 3
    assert batcher.next_batch(0, known, 2_000.0) is None
    assert {key.model for key in batcher.waiting()} == {"busy", "long"}
    batcher.busy.clear()
    assert {next_of(batcher, known) for _ in range(6)} == {"busy", "long"}
    assert batcher.queued_items == 0


def test_beside_a_batch_only_more_urgent_rows_run() -> None:
    batcher = Batcher()
    add(batcher, items=(1,) * 6, priorities=(9, 3, 3, 5, 9, 3))
    batcher.busy["m", "v1.0.0"] = 5
    known = profiles("m")
    assert taken(batcher.next_batch(0, known)) == [("f", 0, 1), ("f", 0, 2), ("f", 0, 5)]
    assert batcher.next_batch(0, known) is None
    add(batcher, frame="g", priorities=(4,))
    assert taken(batcher.next_batch(10 * AGE_US, known)) == [("g", 0, 0)]  # whatever class the others rose to
    batcher.busy.clear()
    assert taken(batcher.next_batch(10 * AGE_US, known))[:1] == [("f", 0, 3)]


def test_a_model_may_hold_so_many_rows_and_its_neighbour_as_many() -> None:
    batcher = Batcher(max_items=10)
    assert add(batcher, "a", items=(4, 4)) == []
    assert add(batcher, "a", frame="g", items=(3,)) == [("g", 0, 0)]
    assert add(batcher, "b", items=(99,)) == []  # however large, when nothing of it waits
    assert add(batcher, "b", frame="g", items=(1,)) == [("g", 0, 0)]
    while batcher.next_batch(0, profiles("a", "b")) is not None:
        pass
    assert add(batcher, "a", items=(4, 4)) == []
    assert batcher.queued_items == 8


def test_the_bound_counts_bytes_over_all_signatures_of_a_model() -> None:
    batcher = Batcher(max_bytes=100)
    far, one = [FAR], [1]
    wide, narrow = (BatchKey("m", "v1.0.0", (("x", (width,), 4),)) for width in (20, 6))
    assert batcher.add(wide, "f", 0, b"\5", one, far, 0) == []
    assert batcher.add(narrow, "f", 1, b"\5", one, far, 0) != []
    assert batcher.waiting() == {wide: 1}
    assert batcher.drop("m", "v1.0.0")
    assert batcher.add(narrow, "f", 1, b"\5", one, far, 0) == []


def test_a_flood_of_less_urgent_rows_leaves_room_for_urgent_ones() -> None:
    batcher = Batcher(max_items=100)
    refused = 0
    for at in range(100):
        refused += len(add(batcher, frame=f"{at}", priorities=(9,)))
    assert (batcher.queued_items, refused) == (55, 45)
    assert add(batcher, frame="mixed", items=(1,) * 3, priorities=(9, 0, 8)) == [("mixed", 0, 0)]
    for at in range(100):
        refused += len(add(batcher, frame=f"{at}", priorities=(0,)))
    assert batcher.queued_items == 100


def test_urgent_rows_take_few_others_along_where_each_costs_time() -> None:
    batcher = Batcher()
    add(batcher, frame="f", items=(1,) * 4, priorities=(9, 0, 9, 5))
    slow, quick = profiles("m", fixed=20.0, per_item=3_000.0), profiles("m", fixed=20.0, per_item=300.0)
    assert taken(batcher.next_batch(0, slow)) == [("f", 0, 1)]
    add(batcher, frame="g", items=(1,), priorities=(0,))
    assert taken(batcher.next_batch(0, quick)) == [("g", 0, 0), ("f", 0, 3), ("f", 0, 0), ("f", 0, 2)]


segments = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.lists(st.tuples(st.integers(1, 20), st.integers(0, 9), st.integers(0, 3000)), min_size=1, max_size=6),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(segments, st.integers(1, 16), st.integers(0, 2000))
def test_every_row_comes_back_exactly_once(
    added: list[tuple[str, list[tuple[int, int, int]]]], cap: int, now: int
) -> None:
    batcher = Batcher()
    expected = []
    for number, (model, columns) in enumerate(added):
        items, priorities, deadlines = (tuple(column) for column in zip(*columns, strict=True))
        add(batcher, model, f"{number}", items, priorities, deadlines)
        expected += [(f"{number}", 0, row) for row in range(len(items))]
    seen = []
    while (batch := batcher.next_batch(now, profiles(*"abc", cap=cap))) is not None:
        seen += rows(batch.slices) + rows(batch.expired)
        assert batch.num_items == sum(s.num_items for s in batch.slices)
        assert batch.num_items <= cap or (len(batch.slices) == 1 and batch.slices[0].num_rows == 1)
        for row_slice in batch.slices:
            columns = added[int(row_slice.frame)][1]
            assert row_slice.first_item == sum(column[0] for column in columns[: row_slice.first_row])
            assert {column[1] for column in columns[row_slice.first_row :][: row_slice.num_rows]} == {
                row_slice.priority
            }
            assert row_slice.earliest_us >= now
            assert list(row_slice.row_items) == [
                column[0] for column in columns[row_slice.first_row :][: row_slice.num_rows]
            ]
        assert len(batch.slices) + len(batch.expired) > 0
    assert sorted(seen) == sorted(expected)
    assert batcher.queued_items == 0


def test_what_an_outage_piles_up_before_a_fast_model_is_not_refused() -> None:
    """Half a minute of 1,500 requests/s to one model, of the least urgent priority."""
    batcher = Batcher()
    for number in range(1_500):
        assert add(batcher, frame=str(number), items=(1,) * 30, priorities=(9,) * 30) == []
    assert batcher.queued_items == 45_000
