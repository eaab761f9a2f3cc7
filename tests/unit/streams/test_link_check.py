"""The check of a chain's links: any record of a log, whatever is done to it; heads as text (see test_chain_check)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import PoisonRecordError
from streams.link_check import SIGNED, Anchor, Finding, LinkCheck, head_text, parse_head
from streams.memory_view import MemoryHead

TOPIC = "some.log"


@dataclass(frozen=True, slots=True)
class Link:
    sequence: int
    prev_hash: bytes


def decode(value: bytes | None) -> Link:
    if value is None or len(value) != 41:
        raise PoisonRecordError("garbage", "not a link")
    return Link(int.from_bytes(value[:8]), value[8:40])


def chain(length: int, last: bytes = bytes(32), first: int = 1) -> list[bytes]:
    values = []
    for sequence in range(first, first + length):
        values.append(sequence.to_bytes(8) + last + b"x")
        last = hashlib.sha256(values[-1]).digest()
    return values


def head(log: list[bytes]) -> MemoryHead:
    return MemoryHead(decode(log[-1]).sequence, hashlib.sha256(log[-1]).digest())


def close(log: list[bytes], *anchors: Anchor, first: int = 0, behind: MemoryHead | None = None) -> LinkCheck[Link]:
    made = LinkCheck(TOPIC, decode, first, anchors)
    if behind is not None:
        made.begin_behind(behind)
    for offset, value in enumerate(log, start=first):
        made.record(offset, value)
    return made


@given(st.integers(2, 12), st.data())
def test_a_chain_whose_beginning_retention_took_is_checked_from_there(length: int, data: st.DataObject) -> None:
    log = chain(length)
    gone = data.draw(st.integers(1, length - 1))
    rest, before = log[gone:], head(log[:gone])
    assert close(rest, Anchor(head(log), SIGNED), first=gone, behind=before).close(length) == (None, False)
    bad = data.draw(st.integers(0, len(rest) - 1))
    changed = [*rest[:bad], rest[bad][:-1] + b"y", *rest[bad + 1 :]]
    found, _ = close(changed, Anchor(head(log), SIGNED), first=gone, behind=before).close(length)
    assert found is not None
    assert (found.offset, found.sequence) == (gone + bad, gone + bad + 1)


def test_an_anchor_before_the_log_begins_says_nothing() -> None:
    log = chain(6)
    made = close(log[3:], Anchor(MemoryHead(2, bytes(32))), first=3, behind=head(log[:3]))
    assert made.close(6) == (None, False)


def test_what_others_wrote_is_void() -> None:
    log = chain(3)
    made = close([log[0], b"theirs", *log[1:]])
    assert made.close(4) == (None, False)
    assert made.voids(()) == (Finding(TOPIC, 1, 0, "it cannot be read: not a link"),)


def test_a_forged_end_is_where_the_writers_own_goes_on_beside_it() -> None:
    log = chain(3)
    forged = chain(1, hashlib.sha256(log[2]).digest(), first=4)[0][:-1] + b"f"
    own = chain(3, hashlib.sha256(log[2]).digest(), first=4)
    found, is_broken = close([*log, forged, *own]).close(7)
    assert is_broken
    assert found is not None
    assert (found.offset, found.sequence) == (3, 4)


def test_heads_as_text() -> None:
    head = MemoryHead(12, bytes(range(32)))
    assert parse_head(head_text(head)) == head
    for text in ("", "12", "12:ab", ":" + "a" * 64, "1:" + "g" * 64):
        with pytest.raises(ValueError, match="a head is SEQUENCE:HASH"):
            parse_head(text)
