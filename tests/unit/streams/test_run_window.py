"""What a run has under way: acknowledged in order, bounded three ways, and whoever waits for room hears of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streams import run_window
from streams.ordering import Entry
from streams.run_window import WINDOW, RunWindow
from tests.support.fake_kafka import FakeEvent


class Bench:
    """A window that notes what it acknowledges, and how often it says that there is more room."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.num_told = 0
        self.window = RunWindow(lambda event: self.acknowledged.append(event.message.offset), self._roomier)

    def _roomier(self) -> None:
        self.num_told += 1

    def start(self, offset: int, value: bytes | None = b"frame") -> Entry[Any]:
        return self.window.start(FakeEvent(value, offset))


def test_an_event_is_acknowledged_behind_those_before_it_when_all_its_parts_are_done() -> None:
    bench = Bench()
    window, first, second = bench.window, bench.start(0), bench.start(1)
    window.send(first)
    window.send(first)
    window.hold(second)
    for entry in (first, second, second):
        window.finish(entry)
    assert (bench.acknowledged, len(window), window.num_sending) == ([], 2, 1)
    window.confirm(first)
    assert (bench.acknowledged, window.num_sending) == ([], 1)
    assert [event.message.offset for event in window.unfinished()] == [0, 1]
    window.confirm(first)
    assert (bench.acknowledged, len(window), window.num_sending) == ([0, 1], 0, 0)
    assert window.unfinished() == []


def test_what_no_event_caused_holds_nothing_up() -> None:
    bench = Bench()
    for act in (bench.window.hold, bench.window.send, bench.window.confirm, bench.window.finish):
        act(None)
    assert (len(bench.window), bench.window.num_sending, bench.acknowledged) == (0, 0, [])


def test_frames_whose_sends_are_under_way_are_bounded_and_may_send_more_themselves() -> None:
    bench = Bench()
    entries = [bench.start(at) for at in range(WINDOW)]
    for entry in entries[:-1]:
        bench.window.send(entry)
    assert (bench.window.has_room, bench.window.is_sending_enough) == (True, False)
    bench.window.send(entries[-1])
    bench.window.send(entries[-1])
    assert (bench.window.has_room, bench.window.is_sending_enough, bench.window.num_sending) == (False, True, WINDOW)
    bench.window.confirm(entries[-1])
    assert bench.window.has_room is False
    bench.window.confirm(entries[-1])
    assert bench.window.has_room is True


def test_all_that_is_not_acknowledged_is_bounded_by_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_window, "WINDOW", 1)
    monkeypatch.setattr(run_window, "UNFINISHED_WINDOWS", 3)
    monkeypatch.setattr(run_window, "MAX_UNFINISHED_BYTES", 10)
    for value, number in ((b"", 3), (None, 3), (b"12345", 2), (b"1234567890", 1)):
        bench = Bench()
        entries = []
        while bench.window.has_room:
            entries.append(bench.start(len(entries), value))
        assert len(entries) == number
        bench.window.finish(entries[0])
        assert bench.window.has_room is True


def test_room_is_told_of_only_while_somebody_waits_for_it() -> None:
    bench = Bench()
    first, second = bench.start(0), bench.start(1)
    bench.window.send(first)
    bench.window.confirm(first)
    bench.window.finish(first)
    assert bench.num_told == 0
    bench.window.is_waited_for = True
    bench.window.send(second)
    bench.window.confirm(second)
    assert bench.num_told == 1  # a frame less is under way
    bench.window.finish(second)
    assert (bench.num_told, bench.acknowledged) == (2, [0, 1])  # and one is acknowledged


@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_parts_end_all_is_acknowledged_once_and_in_order(seed: int) -> None:
    rng, bench = random.Random(seed), Bench()
    parts: list[tuple[Entry[Any], bool]] = []
    for at in range(30):
        entry = bench.start(at)
        parts.append((entry, False))
        for _ in range(rng.randrange(3)):
            is_sent = rng.random() < 0.5
            (bench.window.send if is_sent else bench.window.hold)(entry)
            parts.append((entry, is_sent))
    rng.shuffle(parts)
    for entry, is_sent in parts:
        assert bench.acknowledged == list(range(len(bench.acknowledged)))
        (bench.window.confirm if is_sent else bench.window.finish)(entry)
    assert bench.acknowledged == list(range(30))
    assert (len(bench.window), bench.window.num_sending, bench.window.has_room) == (0, 0, True)
