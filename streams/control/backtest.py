"""What another policy would have decided on the inputs of a journal, without I/O.

Two copies of the agent go through the journal: one with the policy that is in force, one with the other. Where the
other one's effects are not those that the journal has, that is a ``Change``. Its state then goes on from its own
decisions, but the inputs stay the recorded ones: the world never answers what was not done.

Ticks that changed nothing are not in a journal, yet another policy may act at one. So between two entries the other
policy is also given the ticks that may have been there: one each ``tick_ms``, where the policy in force would have
slept through it. With equal policies there is therefore no change, whatever the journal holds. Across a take-over
nobody ticked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from schemas.journal import JournalEffect, JournalEntry
from streams.agent import TICK, AgentSpec, Event, Tick
from streams.control.journal import SNAPSHOT_EVERY, TICK_INPUT, JournaledAgent, RecordCodec, input_of
from streams.control.plain_difference import told
from streams.control.replay import JOURNAL, Difference, Replay, input_name
from streams.errors import IsosError, PoisonRecordError

IDLE_TICK = "idle tick"
_TICK_RECORD = Tick()


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that falls otherwise: ``was`` in the journal, ``would_be`` under the other policy, as plain effects.

    ``kind``: record, tick, or ``idle tick``, which is in no journal and follows ``sequence``.
    """

    sequence: int
    time_us: int
    kind: str
    input: str
    was: tuple[dict[str, Any], ...]
    would_be: tuple[dict[str, Any], ...]


class PolicyFailedError(IsosError):
    """The agent raises under the other policy, at an entry."""

    def __init__(self, agent: str, sequence: int, reason: str) -> None:
        super().__init__(agent, sequence, reason)
        self.agent = agent
        self.sequence = sequence
        self.reason = reason

    def __str__(self) -> str:
        return f"under this policy the {self.agent} fails at sequence {self.sequence}: {self.reason}"


class Backtest:
    """One agent's journal under ``params``.

    ``recorded`` counts the entries; ``difference`` is the first one between the journal and today's code under the
    policy in force. At the next snapshot both policies then begin anew.
    """

    def __init__(self, spec: AgentSpec, codec: RecordCodec, params: Any) -> None:
        self.recorded = Replay(spec, codec)
        self.difference: Difference | None = None
        self.num_idle_ticks = 0
        self._spec = spec
        self._other_spec = replace(spec, params=params)
        self._codec = codec
        self._other = JournaledAgent(self._other_spec, codec)
        self._next_tick_us: int | None = None

    def take(self, offset: int, value: bytes | None) -> tuple[Change, ...]:
        """Decide the next record of the partition under both policies; what changes. Raises PolicyFailedError."""
        try:
            entry = self._codec.decode(JOURNAL, value)
        except PoisonRecordError:
            self._note(self.recorded.take(offset, value))
            return ()
        idle = self._idle_ticks(entry) if self._follows(entry) else ()
        taken_over = entry.kind == "snapshot" and entry.sequence - self.recorded.agent.last_snapshot < SNAPSHOT_EVERY
        begun = self.recorded.begun
        self._note(self.recorded.fold(offset, entry))
        if self.recorded.agent.sequence == 0:
            return idle
        if self.recorded.begun != begun:
            self._begin(entry)
        if entry.kind == "snapshot":
            if taken_over:
                self._next_tick_us = None
            return idle
        if entry.kind == "tick" or self._next_tick_us is None:
            self._next_tick_us = entry.time_us + self._spec.tick_ms * 1_000
        return (*idle, *self._step(entry))

    def end(self) -> None:
        """Note what is left to say behind the last record."""
        self._note(self.recorded.end())

    def _note(self, found: Difference | None) -> None:
        self.difference = self.difference or found

    def _follows(self, entry: JournalEntry) -> bool:
        return 0 < self.recorded.agent.sequence == entry.sequence - 1

    def _begin(self, entry: JournalEntry) -> None:
        """Both policies begin in the recorded state."""
        self._other = JournaledAgent(self._other_spec, self._codec)
        self._next_tick_us = None
        if entry.kind == "snapshot":
            self._other.resume(entry)

    def _idle_ticks(self, entry: JournalEntry) -> tuple[Change, ...]:
        """What the other policy does at ticks before ``entry`` that the policy in force would have slept through."""
        changes: list[Change] = []
        tick_us = self._spec.tick_ms * 1_000
        while tick_us and self._next_tick_us is not None and self._next_tick_us < entry.time_us:
            now_us, self._next_tick_us = self._next_tick_us, self._next_tick_us + tick_us
            if not self._sleeps(now_us):
                continue
            self.num_idle_ticks += 1
            sequence = self.recorded.agent.sequence
            try:
                made = self._other.step(TICK_INPUT, now_us)
            except Exception as error:  # a policy under trial may make the agent raise anything
                raise PolicyFailedError(self._spec.name, sequence, f"{type(error).__name__}: {error}") from error
            if made is not None and made.effects:
                changes.append(Change(sequence, now_us, IDLE_TICK, "", (), self._told(made.effects)))
        return tuple(changes)

    def _sleeps(self, now_us: int) -> bool:
        """Whether a tick changes nothing under the policy in force; then it may have been, and nobody wrote it down."""
        state = self.recorded.agent.state
        after, effects = self._spec.decide(state, Event(_TICK_RECORD, TICK, now_us), self._spec.params)
        return not effects and (after is state or after == state)

    def _step(self, entry: JournalEntry) -> tuple[Change, ...]:
        try:
            effects = self._other.apply(input_of(entry), entry.time_us)
        except Exception as error:  # a policy under trial may make the agent raise anything
            reason = f"{type(error).__name__}: {error}"
            raise PolicyFailedError(self._spec.name, entry.sequence, reason) from error
        if self._other.same_effects(effects, entry.effects):
            return ()
        was, would_be = self._told(entry.effects), self._told(effects)
        return (Change(entry.sequence, entry.time_us, entry.kind, input_name(entry), was, would_be),)

    def _told(self, effects: tuple[JournalEffect, ...]) -> tuple[dict[str, Any], ...]:
        return tuple(told(self._other, effect) for effect in effects)
