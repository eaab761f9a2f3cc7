"""Journal first, without I/O: how a control agent steps, what its journal says, how its state comes back.

``JournaledAgent`` turns inputs into journal entries. The shell (``control_loop``) writes the entries through
the fenced writer and *then* sends their effects, each with an id ``agent/sequence/index`` in header ``isos-effect``.

- An input at or below the cursor of its (topic, partition) was journaled before and is dropped.
- An effect of another journaled agent is dropped if that agent's last effect on the same (topic, partition) was not
  earlier: a restarted sender repeats its last effects, a woken one sends stale ones.
- A tick is journaled only if it changed the state or had effects; a record always, so the cursor is never behind.
- Every ``SNAPSHOT_EVERY`` entries the state itself is an entry, with the cursors; folding starts at the last one.
- Time is the entry's; it never runs backwards, whatever the machine's clock does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from schemas.coordinate import RecordCoordinate
from schemas.journal import JournalEffect, JournalEntry
from streams.agent import TICK, AgentSpec, Event, Publish, Tick, Unreadable
from streams.canonical import from_json, to_json
from streams.control.effect_id import SeenEffects
from streams.errors import InvariantError, PoisonRecordError

SNAPSHOT_EVERY: Final = 1_000
MEMORY_EVENTS: Final = "memory.events"
_TICK_RECORD: Final = Tick()


class RecordCodec(Protocol):
    """Records of a topic (short name) to value bytes and back; ``decode`` raises PoisonRecordError."""

    def encode(self, topic: str, record: Any) -> bytes:
        """Value bytes of ``record``."""

    def decode(self, topic: str, value: bytes | None) -> Any:
        """Record of ``value``."""


@dataclass(frozen=True, slots=True)
class Input:
    """What reaches an agent: a record as it stood in the log, or (topic empty) a tick."""

    topic: str = ""
    partition: int = -1
    offset: int = -1
    key: bytes = b""
    value: bytes | None = None
    effect_source: str = ""

    @property
    def place(self) -> str:
        """Topic and partition as a key of the cursors."""
        return f"{self.topic}/{self.partition}"


TICK_INPUT: Final = Input()


@dataclass(frozen=True, slots=True)
class SnapshotBody:
    """Value of a snapshot entry: the state's canonical JSON, cursors per place, last effect per source and place."""

    state: str
    cursors: Mapping[str, int]
    seen: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Today's code decides otherwise than the journal says, first at ``sequence``."""

    agent: str
    sequence: int
    what: str


class JournaledAgent:
    """One journaled agent's state with its cursors; mutated only by ``step``, ``snapshot`` and ``fold``."""

    def __init__(self, spec: AgentSpec, codec: RecordCodec) -> None:
        if spec.lookups is not None or spec.state_per != "agent":
            raise InvariantError(f"{spec.name}: a journaled agent has one state and no look-ups")
        self.spec = spec
        self.codec = codec
        self.state: Any = spec.initial(spec.params)
        self.sequence = 0
        self.time_us = 0
        self.last_snapshot = 0
        self.cursors: dict[str, int] = {}
        self.seen = SeenEffects()

    def is_repeat(self, given: Input) -> bool:
        """Whether a record was journaled before, or carries an effect that was."""
        if given.topic == "":
            return False
        return given.offset <= self.cursors.get(given.place, -1) or self.seen.is_repeat(
            given.effect_source, given.place
        )

    def step(self, given: Input, now_us: int) -> JournalEntry | None:
        """Decide on one input; the entry to write, or None when there is nothing to write. Not idempotent.

        Time rises with every entry, also where the clock jumped back: agents build ids of it.
        """
        if self.is_repeat(given):
            return None
        now_us = max(now_us, self.time_us + 1)
        if self.spec.ignores is not None and given.topic:
            event = self._event(given, now_us)
            if event is not None and self.spec.ignores(self.state, event.record):
                return None
        state, effects = self._decide(given, now_us)
        if given.topic == "" and not effects and state == self.state:
            return None
        self.state = state
        self._advance(given, now_us)
        digest = self._state_digest() if self.sequence % SNAPSHOT_EVERY == 0 else b""
        kind = "record" if given.topic else "tick"
        return self._entry(kind, given, effects, digest)

    def snapshot_due(self) -> bool:
        """Whether ``SNAPSHOT_EVERY`` entries were written since the last snapshot."""
        return self.sequence - self.last_snapshot >= SNAPSHOT_EVERY

    def snapshot(self) -> JournalEntry:
        """The state as an entry."""
        self.sequence += 1
        self.last_snapshot = self.sequence
        state = to_json(self.state)
        body = to_json(SnapshotBody(state, self.cursors, self.seen.last)).encode()
        return self._entry("snapshot", Input(value=body), (), hashlib.sha256(state.encode()).digest())

    def fold(self, entries: Iterable[JournalEntry], *, trust_snapshots: bool = True) -> tuple[Divergence, ...]:
        """Rebuild the state from entries that begin at a snapshot or at sequence 1; returns where today's code differs.

        ``trust_snapshots`` False passes snapshots over. Raises InvariantError on a gap, PoisonRecordError when the
        first snapshot does not fit the state's type.
        """
        found: list[Divergence] = []
        for entry in entries:
            if self.sequence and entry.sequence != self.sequence + 1:
                raise InvariantError(f"journal of {self.spec.name}: {entry.sequence} does not follow {self.sequence}")
            if entry.kind == "snapshot" and trust_snapshots:
                self._fold_snapshot(entry, found)
            elif entry.kind == "snapshot":
                self.sequence = self.last_snapshot = entry.sequence
            else:
                self._fold_step(entry, found)
        return tuple(found)

    def _fold_snapshot(self, entry: JournalEntry, found: list[Divergence]) -> None:
        if self.sequence == 0:
            self.resume(entry)
            return
        if to_json(self.state) != snapshot_body(entry).state:
            found.append(Divergence(self.spec.name, entry.sequence, "the state differs from the snapshot"))
        self.pass_snapshot(entry)

    def _fold_step(self, entry: JournalEntry, found: list[Divergence]) -> None:
        if self.sequence == 0 and entry.sequence != 1:
            raise InvariantError(f"journal of {self.spec.name} begins at {entry.sequence} without a snapshot")
        effects = self.apply(input_of(entry), entry.time_us)
        if not self.same_effects(effects, entry.effects):
            found.append(Divergence(self.spec.name, entry.sequence, "the effects differ"))

    def resume(self, snapshot: JournalEntry) -> None:
        """Stand as at a snapshot entry. Raises PoisonRecordError when that does not fit the state's type."""
        body = snapshot_body(snapshot)
        self.state = from_json(type(self.state), body.state)
        self.cursors, self.seen = dict(body.cursors), SeenEffects(dict(body.seen))
        self.pass_snapshot(snapshot)

    def pass_snapshot(self, snapshot: JournalEntry) -> None:
        """Count a snapshot entry as journaled; the state stays what it is."""
        self.sequence = self.last_snapshot = snapshot.sequence
        self.time_us = max(self.time_us, snapshot.time_us)

    def apply(self, given: Input, time_us: int) -> tuple[JournalEffect, ...]:
        """Decide on an input that was journaled at ``time_us``, as a fold does; the effects. Not idempotent."""
        self.state, effects = self._decide(given, time_us)
        self._advance(given, time_us)
        return effects

    def same_effects(self, left: Sequence[JournalEffect], right: Sequence[JournalEffect]) -> bool:
        """Whether effects are equal byte for byte, or say the same in another version of their schemas."""
        return left == right or [self.meaning(each) for each in left] == [self.meaning(each) for each in right]

    def _advance(self, given: Input, now_us: int) -> None:
        self.sequence += 1
        self.time_us = now_us
        if given.topic:
            self.cursors[given.place] = given.offset
            self.seen.note(given.effect_source, given.place)

    def _decide(self, given: Input, now_us: int) -> tuple[Any, tuple[JournalEffect, ...]]:
        event = self._event(given, now_us)
        if event is None:
            return self.state, ()
        state, effects = self.spec.decide(self.state, event, self.spec.params)
        return state, tuple(self._encode(effect) for effect in effects)

    def _event(self, given: Input, now_us: int) -> Event | None:
        """The typed event; None for a record that cannot be decoded and of which the agent does not want to hear."""
        if given.topic == "":
            return Event(_TICK_RECORD, TICK, now_us)
        try:
            record = self.codec.decode(given.topic, given.value)
        except PoisonRecordError as error:
            if given.topic not in self.spec.unreadable:
                return None
            record = Unreadable(error.code)
        coordinate = RecordCoordinate(given.topic, given.partition, given.offset)
        # Memory is a hash chain over stored bytes, which an agent cannot see in the record itself.
        answers = hashlib.sha256(given.value or b"").digest() if given.topic == MEMORY_EVENTS else None
        return Event(record, coordinate, now_us, key=given.key, answers=answers)

    def _encode(self, effect: Any) -> JournalEffect:
        if not isinstance(effect, Publish) or effect.topic not in self.spec.emits:
            raise InvariantError(f"{self.spec.name} may not emit {effect!r}")
        value = None if effect.record is None else self.codec.encode(effect.topic, effect.record)
        return JournalEffect(effect.topic, -1 if effect.partition is None else effect.partition, effect.key, value)

    def meaning(self, effect: JournalEffect) -> tuple[Any, ...]:
        """What an effect says, whichever version of its schema it was written with."""
        try:
            record = None if effect.value is None else self.codec.decode(effect.topic, effect.value)
        except (PoisonRecordError, KeyError):  # KeyError: a topic that this release does not know
            record = effect.value
        return effect.topic, effect.partition, effect.key, record

    def _state_digest(self) -> bytes:
        return hashlib.sha256(to_json(self.state).encode()).digest()

    def _entry(self, kind: str, given: Input, effects: tuple[JournalEffect, ...], digest: bytes) -> JournalEntry:
        return JournalEntry(
            agent=self.spec.name,
            sequence=self.sequence,
            time_us=self.time_us,
            kind=kind,
            input_topic=given.topic,
            input_partition=given.partition,
            input_offset=given.offset,
            input_key=given.key,
            input_value=given.value,
            effect_source=given.effect_source,
            effects=effects,
            state_digest=digest,
        )


def snapshot_body(entry: JournalEntry) -> SnapshotBody:
    """What a snapshot entry holds. Raises PoisonRecordError when it holds nothing of the kind."""
    return from_json(SnapshotBody, (entry.input_value or b"").decode("utf-8", "replace"))


def input_of(entry: JournalEntry) -> Input:
    """The input that an entry journaled."""
    if entry.kind == "tick":
        return TICK_INPUT
    return Input(
        entry.input_topic,
        entry.input_partition,
        entry.input_offset,
        entry.input_key,
        entry.input_value,
        entry.effect_source,
    )


def restore(
    spec: AgentSpec, codec: RecordCodec, entries: list[JournalEntry]
) -> tuple[JournaledAgent, tuple[Divergence, ...]]:
    """The agent as its journal left it, folded from the last snapshot.

    A snapshot that no longer fits the state's type is passed over if ``entries`` reach back to sequence 1, else read
    without the fields that the agent has forgotten. Raises PoisonRecordError where it does not fit then either.
    """
    starts = [at for at, entry in enumerate(entries) if entry.kind == "snapshot"]
    agent = JournaledAgent(spec, codec)
    try:
        return agent, agent.fold(entries[starts[-1] :] if starts else entries)
    except PoisonRecordError:
        if entries[0].sequence != 1 and not spec.forgotten:
            raise
    agent = JournaledAgent(spec, codec)
    if entries[0].sequence == 1:
        return agent, agent.fold(entries, trust_snapshots=False)
    return agent, agent.fold([_without(entries[starts[-1]], spec.forgotten), *entries[starts[-1] + 1 :]])


def _without(snapshot: JournalEntry, forgotten: Collection[str]) -> JournalEntry:
    """A snapshot entry whose state has none of the fields."""
    body = snapshot_body(snapshot)
    state = to_json({name: value for name, value in json.loads(body.state).items() if name not in forgotten})
    return replace(snapshot, input_value=to_json(replace(body, state=state)).encode())
