"""When a Router's knowledge of memory is too old: a sign of life is a heartbeat that it has read as far as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.freshness import Freshness, FreshnessParams, hear, look, refused
from schemas.frame import RowError
from streams.columns import ERROR, EXPIRED, REJECTED
from tests.support.control import SECOND
from tests.support.frames import MODEL, T, frame, memory, row

BOUND = 20
PARAMS = FreshnessParams(BOUND * SECOND)


class World:
    """A Router's clock, what it has read of memory, and how it judges that."""

    def __init__(self, sequence: int = 5) -> None:
        self.second = 1_000
        self.sequence = sequence
        self.state = Freshness(self.second * SECOND, self.second * SECOND, sequence)
        self.level = "fresh"

    def beat(self, sequence: int | None = None) -> None:
        self.state = hear(self.state, self.sequence if sequence is None else sequence, self.second * SECOND)

    def run(self, seconds: int, *, beats: bool = False, sequence: int | None = None) -> str:
        """Look once a second; gives how it stands then."""
        for _ in range(seconds):
            self.second += 1
            if beats:
                self.beat(sequence)
            self.state, self.level = look(self.state, self.sequence, self.second * SECOND, PARAMS)
        return self.level


def test_it_ages_from_half_of_the_bound_on_and_is_silent_at_it() -> None:
    world = World()
    assert world.run(9) == "fresh"
    assert world.run(1) == "ageing"
    assert world.run(9) == "ageing"
    assert world.run(1) == "silent"
    assert world.run(1_000) == "silent"
    world.beat()
    assert world.run(1) == "fresh"


def test_memory_that_does_not_change_is_not_silent() -> None:
    assert World().run(1_000, beats=True) == "fresh"


def test_an_event_of_memory_is_a_sign_of_life_without_any_heartbeat() -> None:
    world = World()
    world.run(19)
    world.sequence += 1
    assert world.run(1) == "fresh"


@pytest.mark.parametrize(("says", "level"), [(5, "fresh"), (4, "fresh"), (6, "silent"), (0, "silent")])
def test_a_heartbeat_counts_for_what_was_read(says: int, level: str) -> None:
    """One of a standby (0) says nothing, and one of memory that never arrives here confirms nothing."""
    assert World(sequence=5).run(BOUND + 1, beats=True, sequence=says) == level


def test_a_heartbeat_is_believed_once_memory_was_read_as_far() -> None:
    world = World(sequence=5)
    world.beat(6)
    assert world.run(19) == "ageing"
    world.beat(7)
    world.state, world.level = look(world.state, 6, world.second * SECOND, PARAMS)
    assert world.level == "fresh"
    world.sequence = 6
    assert world.run(BOUND) == "silent"
    world.sequence = 7
    assert world.run(1) == "fresh"


def test_a_process_that_slept_itself_calls_nobody_silent() -> None:
    world = World()
    world.run(5)
    world.second += 900
    assert world.run(1) == "fresh"
    assert world.run(BOUND - 1) == "ageing"
    assert world.run(1) == "silent"


def test_a_clock_that_is_set_back_begins_anew() -> None:
    world = World()
    world.run(15)
    world.second -= 500
    assert world.run(1) == "fresh"
    assert world.run(BOUND) == "silent"


def test_every_row_ends_with_a_code_a_sentence_and_when_to_come_again() -> None:
    given = frame([row(1), row(2, deadline_us=T), row(3)])
    late, silent = refused(given, memory(MODEL), T)
    assert (late.topic, silent.topic, silent.partition) == ("inference.executed", "inference.executed", given.partition)
    assert late.frame.statuses == bytes([EXPIRED])
    assert [error.code for error in late.frame.errors] == ["deadline_exceeded"]
    assert silent.frame.statuses == bytes([REJECTED]) * 2
    assert [(error.code, error.retry_after_ms) for error in silent.frame.errors] == [("memory_silent", 5_000)] * 2
    assert np.frombuffer(silent.frame.offsets, "<i8").tolist() == [1, 3]
    assert (silent.frame.memory_sequence, silent.frame.routed_us) == (40, T)
    (only,) = refused(frame([row(1, deadline_us=T)]), memory(MODEL), T)
    assert only.frame.statuses == bytes([EXPIRED])


def test_rows_that_were_to_be_tried_again_end_with_what_they_failed_with() -> None:
    failed = RowError(0, "execution_failed", "it ran out of memory", 0), RowError(1, "connection_lost", "gone", 0)
    given = replace(frame([row(1), row(2, deadline_us=T)]), attempt=1, not_before_us=T + 50_000, errors=failed)
    (ended,) = refused(given, memory(MODEL), T)
    assert (ended.topic, ended.partition) == ("inference.executed", given.partition)
    assert (ended.frame.statuses, ended.frame.errors) == (bytes([ERROR]) * 2, failed)
    assert (ended.frame.attempt, ended.frame.not_before_us, ended.frame.routed_us) == (0, 0, T)
