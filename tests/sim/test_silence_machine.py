"""State machine of memory's silence: a writer that dies and comes back, memory that is read late, a Router that sleeps.

Rows are refused exactly while no sign of life came for the bound: neither an event of memory, nor a heartbeat that
speaks of what was read. The loop's part and the Router are the real ones; the law below keeps its own account of signs.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.freshness import FreshnessParams
from agents.router import ROUTER, RouterParams, RouterState
from infra.memory_age import TOPIC, MemoryAge
from schemas.coordinate import RecordCoordinate
from schemas.telemetry import Heartbeat
from streams.agent import TICK, Event
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.frame_effects import SendFrame
from streams.memory_view import MemoryView
from streams.partition_log import LogRecord
from streams.takeover import HeldPartition
from tests.support.control import SECOND
from tests.support.frames import frame, memory, plan, row

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

CODEC = Codec(SchemaIds.local())
BOUND_S = 12
PARAMS = RouterParams(num_lanes=2)
PLANNED = memory(plan("digits", ("v1.0.0", 100)))


class SilenceMachine(RuleBasedStateMachine):
    """``written`` and ``read``: sequences of memory; ``said``: what the last heartbeat that came spoke of, and when.

    ``sign``: when a sign of life came last; ``looked_at``: the sequence that was read when the loop looked last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.second = 1_000
        self.written = self.read = 5
        self.looked_at = 0
        self.lives = True
        self.said: tuple[int, int] | None = None
        self.sign = self.second
        self.runs: list[tuple[HeldPartition, RouterState]] = []
        source: Any = SimpleNamespace(view=MemoryView(sequence=self.read))
        self.source = source
        self.age = MemoryAge(
            Connection("nowhere:1"), CODEC, None, source, lambda: [held for held, _ in self.runs],
            FreshnessParams(BOUND_S * SECOND, 5 * SECOND), clock_us=lambda: self.second * SECOND,
        )  # fmt: skip
        self.take_over()

    @rule()
    def take_over(self) -> None:
        """Another generation: one partition, whose state begins anew."""
        held = HeldPartition("isos.inference.admitted.v1", 0, len(self.runs))
        held.ready.set()
        self.runs = [(held, RouterState())]
        self.look()

    @rule(lives=st.booleans())
    def writer(self, lives: bool) -> None:
        self.lives = lives

    @rule()
    def change(self) -> None:
        """The writer changes memory, if it lives; the Router has not read it yet."""
        self.written += self.lives

    @rule()
    def reads(self) -> None:
        self.read = self.written
        self.source.view = MemoryView(sequence=self.read)

    @rule(seconds=st.integers(1, 2 * BOUND_S), beats=st.booleans(), standby=st.booleans())
    def passes(self, seconds: int, beats: bool, standby: bool) -> None:
        """Time, in which a writer that lives is heard, and others always are."""
        for _ in range(seconds):
            self.second += 1
            records = [beat("router-0", self.read)]
            if standby:
                records.append(beat("orchestrator-1", 0))
            if self.lives and beats:
                records.append(beat("orchestrator-0", self.written))
                self.said = self.written, self.second
            self.age.take(records)
            self.look()

    @rule(seconds=st.integers(6, 10 * BOUND_S))
    def sleeps(self, seconds: int) -> None:
        """The Router's process stood still; what happened meanwhile it did not hear."""
        self.second += seconds
        self.sign = self.second
        self.look()

    def look(self) -> None:
        """The loop looks once; the law notes the signs that there were until now, and the runs take their news."""
        if self.read > self.looked_at:
            self.sign = self.second
        self.looked_at = self.read
        if self.said is not None and self.said[0] <= self.read:
            self.sign = max(self.sign, self.said[1])
            self.said = None
        self.age.look()
        after = []
        for held, state in self.runs:
            while held.news:
                event = Event(held.news.popleft(), TICK, self.second * SECOND, answers=PLANNED)
                state, _ = ROUTER.decide(state, event, PARAMS)
            after.append((held, state))
        self.runs = after

    @invariant()
    def rows_are_refused_exactly_while_memory_is_silent(self) -> None:
        self.look()
        now_us = self.second * SECOND
        given = frame([row(1, deadline_us=now_us + SECOND)], now_us=now_us)
        wanted = "inference.executed" if self.second - self.sign >= BOUND_S else "inference.routed"
        for _, state in self.runs:
            event = Event(given, RecordCoordinate("t", 0, 0), now_us, answers=PLANNED)
            sent = [each for each in ROUTER.decide(state, event, PARAMS)[1] if isinstance(each, SendFrame)]
            assert [each.topic for each in sent] == [wanted]
            codes = {error.code for each in sent for error in each.frame.errors}
            assert codes == ({"memory_silent"} if wanted == "inference.executed" else set())


def beat(name: str, sequence: int) -> LogRecord:
    role, _, instance = name.partition("-")
    value = CODEC.encode(TOPIC, Heartbeat(role, int(instance), 7, 1, 2, sequence, ()))
    return LogRecord(1, name.encode(), value)


TestSilence = SilenceMachine.TestCase
TestSilence.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
