"""Repeated lines are written once a second; nothing goes without a word, and what differs is written."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest

from infra import paced_log
from infra.paced_log import PacedHandler

Said = Callable[[], list[str]]


class Clock:
    """A clock that the test sets, seconds."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(clock: Clock) -> Iterator[Said]:
    """Lines written since the last call; loggers ``aiokafka.client`` and ``streams.edge`` write there."""
    stream = io.StringIO()
    handler = PacedHandler(stream, clock)
    loggers = [logging.getLogger(name) for name in ("aiokafka.client", "streams.edge")]
    for each in loggers:
        each.addHandler(handler)
        each.propagate = False
        each.setLevel(logging.INFO)  # the commands quieten the library for the whole process

    def read() -> list[str]:
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return lines

    yield read
    for each in loggers:
        each.removeHandler(handler)
        each.propagate = True
        each.setLevel(logging.NOTSET)
    handler.close()


def complain(node: int) -> None:
    logging.getLogger("aiokafka.client").error("Unable connect to node with id %s: refused", node)


def test_a_library_says_the_same_template_once_a_second(said: Said, clock: Clock) -> None:
    for number in range(200):
        complain(number)
    assert said() == ["Unable connect to node with id 0: refused"]
    for second in range(3):  # one line a second, also where it goes on
        clock.now_s += 1.0
        complain(-1)
        complain(second)
        held = 199 if second == 0 else 2
        last = 199 if second == 0 else second - 1
        assert said() == [f"Unable connect to node with id {last}: refused [the last of {held} more of these]"]


def test_what_was_held_back_is_told_with_the_next_line_of_any_kind(said: Said, clock: Clock) -> None:
    complain(1)
    complain(2)
    clock.now_s += 5.0
    logging.getLogger("streams.edge").warning("assigned 1")
    assert said() == [
        "Unable connect to node with id 1: refused",
        "Unable connect to node with id 2: refused [the last of 1 more of these]",
        "assigned 1",
    ]
    clock.now_s += 1.0
    complain(3)
    assert said() == ["Unable connect to node with id 3: refused"]  # nothing was held back since: it is news again


def test_our_lines_are_the_same_only_when_they_read_the_same(said: Said) -> None:
    ours = logging.getLogger("streams.edge")
    for number in (1, 2, 2, 1):
        ours.warning("assigned %d", number)
    assert said() == ["assigned 1", "assigned 2"]
    ours.error("assigned 1")
    assert said() == ["assigned 1"]


def test_the_end_tells_what_is_held_back(clock: Clock) -> None:
    stream = io.StringIO()
    handler = PacedHandler(stream, clock)
    for number in range(3):
        handler.handle(logging.LogRecord("mode", logging.ERROR, "", 0, "crashed %d", (number,), None))
    handler.close()
    assert stream.getvalue().splitlines() == ["crashed 0", "crashed 2 [the last of 2 more of these]"]


def test_kinds_without_bound_are_not_remembered(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paced_log, "MAX_KINDS", 3)
    ours = logging.getLogger("streams.edge")
    for number in (0, 0, 1, 2, 3, 0):
        ours.warning("record %d", number)
    assert said() == [
        "record 0", "record 1", "record 2", "record 0 [the last of 1 more of these]", "record 3", "record 0",
    ]  # fmt: skip


def test_a_line_of_a_second_ago_is_not_a_repetition(said: Said, clock: Clock) -> None:
    for _ in range(3):
        complain(1)
        clock.now_s += 1.0
    assert said() == ["Unable connect to node with id 1: refused"] * 3
