"""Copies for a shadow: whose, how many, where to, and that they are the first to go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import shadow
from agents.retry import PINNED
from agents.route import version_for
from agents.shadow import COHORT, MOST_UNDER_WAY, PATIENCE_US, PRIORITY, Copies, is_chosen
from schemas.frame import InferenceFrame
from schemas.quick import replaced
from streams.columns import ERROR, HEDGE, OK, PRIMARY, SHADOW, Columns, request_ids
from streams.frame_effects import Answered, Followed, SendFrame
from streams.memory_view import MemoryView
from streams.shadow_view import shadows
from tests.support.frames import MODEL, T, frame, memory, plan, row, with_blob
from tests.support.shadowed import CANDIDATE, SERVING, SHADOWING, shadowed

ROUTED = "inference.routed"
ALL = shadowed(100)


def routed(count: int, first: int = 0, *, deadline_us: int = T + 60_000_000) -> InferenceFrame:
    return frame([row(at, version=SERVING, deadline_us=deadline_us) for at in range(first, first + count)])


def copied(
    made: InferenceFrame, view: MemoryView = ALL, copies: Copies | None = None, topic: str = ROUTED
) -> tuple[Copies | None, tuple[SendFrame, ...]]:
    return shadow.copied(copies, [SendFrame(topic, 1, made)], view, T)


def news(offsets: list[int], role: int = SHADOW, status: int = OK) -> Answered:
    count = len(offsets)
    return Answered(np.array(offsets, "<i8"), np.full(count, status, "|u1"), np.full(count, role, "|u1"), "executor-0")


def test_a_copy_goes_where_its_row_goes_to_the_shadow_last_of_all_and_not_for_long() -> None:
    copies, (sent,) = copied(routed(3))
    made = sent.frame
    columns = Columns.of(made)
    assert (sent.topic, sent.partition, columns.offsets.tolist()) == (ROUTED, 1, [0, 1, 2])
    assert [(each.version, each.cohort) for each in made.segments] == [(SHADOWING, COHORT)]
    assert set(columns.roles.tolist()) == {SHADOW}
    assert set(columns.priorities.tolist()) == {PRIORITY}
    assert columns.deadlines_us.tolist() == [T + PATIENCE_US] * 3
    assert made.segments[0].inputs == routed(3).segments[0].inputs
    assert copies is not None
    assert (copies.num_copied, copies.num_skipped) == (3, 0)
    _, (sent,) = copied(routed(1, deadline_us=T + 7))
    assert Columns.of(sent.frame).deadlines_us.tolist() == [T + 7]


def test_without_a_shadow_nothing_is_copied_nor_remembered() -> None:
    plain = memory(MODEL, plan("digits", (SERVING, 100)))
    assert not shadows(plain)
    assert copied(routed(3), plain) == (None, ())


@pytest.mark.parametrize("percent", [1, 30, 100])
def test_the_share_of_the_keys_is_copied_and_always_the_same(percent: int) -> None:
    wanted = {f"r{at}".encode() for at in range(2_000) if is_chosen("digits", f"r{at}".encode(), percent)}
    assert abs(len(wanted) / 2_000 - percent / 100) < 0.04
    chosen: set[bytes] = set()
    for first in range(0, 2_000, 500):
        _, sent = copied(routed(500, first), shadowed(percent))
        chosen |= {each for effect in sent for each in request_ids(effect.frame)}
    assert chosen == wanted


@given(key=st.binary(min_size=1, max_size=20), percent=st.integers(1, 99))
def test_a_key_that_is_copied_stays_so_when_the_share_grows(key: bytes, percent: int) -> None:
    assert is_chosen("digits", key, percent) <= is_chosen("digits", key, percent + 1)


def test_who_is_copied_has_nothing_to_do_with_which_version_serves() -> None:
    """A copy of each half of the keys that a canary divides: both hashes are CRC-32, with other beginnings."""
    split = plan("digits", (SERVING, 50), ("v2.0.0", 50))
    keys = [f"key-{at}".encode() for at in range(4_000)]
    mine = [is_chosen("digits", key, 50) for key in keys if version_for(split, key) == SERVING]
    assert abs(sum(mine) / len(mine) - 0.5) < 0.05


def test_a_routing_key_is_copied_as_one() -> None:
    keys = [f"k{at}" for at in range(40)]
    made = frame([row(at, version=SERVING, routing_key=keys[at % 40]) for at in range(400)])
    _, (sent,) = copied(made, shadowed(30))
    offsets = Columns.of(sent.frame).offsets.tolist()
    copied_keys = {keys[offset % 40] for offset in offsets}
    assert len(offsets) == 10 * len(copied_keys)


def test_retries_blobs_pinned_rows_hedges_and_the_shadows_own_rows_are_not_copied() -> None:
    plain = routed(1)
    assert copied(replaced(plain, roles=bytes([HEDGE])))[1] == ()
    assert copied(frame([with_blob(row(1, version=SERVING))]))[1] == ()
    pinned = replace(plain.segments[0], cohort=PINNED)
    assert copied(replaced(plain, segments=(pinned,)))[1] == ()
    assert copied(frame([row(1, version=SHADOWING)]))[1] == ()
    assert copied(replaced(plain, statuses=bytes([ERROR])))[1] == ()
    assert copied(plain, topic="inference.executed")[1] == ()


def test_an_ordered_model_has_no_shadow() -> None:
    ordered = replace(MODEL, ordered=True)
    planned = replace(plan("digits", (SERVING, 100)), shadow=shadows(ALL)["digits"])
    assert not shadows(memory(ordered, CANDIDATE, planned))


def test_only_so_many_copies_are_under_way_and_those_that_ended_make_room() -> None:
    copies, (sent,) = copied(routed(MOST_UNDER_WAY + 10))
    assert copies is not None
    assert (len(sent.frame.statuses), copies.num_skipped) == (MOST_UNDER_WAY, 10)
    copies, none = copied(routed(2, 5_000), copies=copies)
    assert none == ()
    for silent in (news([0, 1], PRIMARY), news([0], HEDGE), news([90_000]), Followed(on=True)):
        assert shadow.heard(copies, silent) is copies
    copies = shadow.heard(copies, news([0, 1], status=ERROR))
    copies, (sent,) = copied(routed(5, 6_000), copies=copies)
    assert Columns.of(sent.frame).offsets.tolist() == [6_000, 6_001]
    assert copies is not None
    assert copies.num_skipped == 10 + 2 + 3
    assert shadow.heard(None, news([0])) is None


def test_copies_that_nobody_hears_of_are_given_up_with_their_time() -> None:
    copies, _ = copied(routed(MOST_UNDER_WAY))
    later = [SendFrame(ROUTED, 1, routed(1, 9_000))]
    _, none = shadow.copied(copies, later, ALL, T + PATIENCE_US - 1)
    assert none == ()
    copies, sent = shadow.copied(copies, later, ALL, T + PATIENCE_US)
    assert len(sent) == 1
    assert copies is not None
    assert copies.offsets.tolist() == [9_000]
