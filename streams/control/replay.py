"""A journal decided once more by today's code, without I/O: the first entry at which the two part is named.

``Replay`` takes a journal's records in their order. It begins at sequence 1 or at the first snapshot that fits today's
state; what stands before is passed over. From there each entry's input is decided again, at the entry's time, and
compared: the effects byte for byte (or by what they say, where their schema has another version since), the state with
the digest of each 1,000th entry, and state and cursors with every snapshot. An entry that cannot be read, is another
agent's, does not follow the one before, or takes an input twice is a difference as well: of the journal.

A snapshot of a release whose state had other fields is compared by the fields that both know. Digests cannot be, so one
that differs counts only if the next snapshot does not show that the state was of another shape.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from schemas.journal import JournalEffect, JournalEntry
from streams.agent import AgentSpec
from streams.canonical import digest, from_json, to_json
from streams.control.journal import JournaledAgent, RecordCodec, SnapshotBody, input_of, snapshot_body
from streams.control.plain_difference import first_difference, shortened, told
from streams.errors import PoisonRecordError

JOURNAL: Final = "control.journal"
KINDS: Final = ("record", "tick", "snapshot")

Part = Literal["effects", "state", "journal"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where today's code decides otherwise than the journal (effects, state), or where the journal is broken.

    ``offset``: of the entry in the agent's partition; ``sequence`` is -1 and ``time_us`` 0 where it cannot be read.
    ``input``: the input's topic/partition/offset, empty for ticks and snapshots. ``what``: a sentence.
    """

    agent: str
    offset: int
    sequence: int
    time_us: int
    kind: str
    input: str
    part: Part
    what: str


def input_name(entry: JournalEntry) -> str:
    """Where an entry's input stood, as ``topic/partition/offset``; empty when it was no record."""
    return f"{entry.input_topic}/{entry.input_partition}/{entry.input_offset}" if entry.kind == "record" else ""


class Replay:
    """One agent's journal, decided again. Goes on behind a difference, from the next snapshot where it has to.

    ``agent`` stands where today's code is, at sequence 0 while nothing could be begun from; ``begun`` is the sequence
    of the entry it was begun from last. ``num_passed``: entries that nothing was known for. ``num_reshaped``:
    snapshots of another shape of the state.
    """

    def __init__(self, spec: AgentSpec, codec: RecordCodec) -> None:
        self.agent = JournaledAgent(spec, codec)
        self.begun = 0
        self.first_sequence = 0
        self.num_entries = 0
        self.num_snapshots = 0
        self.num_passed = 0
        self.num_reshaped = 0
        self._spec = spec
        self._codec = codec
        self._last_offset = -1
        self._digest_differs: Difference | None = None

    def take(self, offset: int, value: bytes | None) -> Difference | None:
        """Decide the next record of the partition again; what differs, if anything does."""
        try:
            entry = self._codec.decode(JOURNAL, value)
        except PoisonRecordError as error:
            self._lose()
            return Difference(
                self._spec.name, offset, -1, 0, "", "", "journal", f"the record is no journal entry ({error})"
            )
        return self.fold(offset, entry)

    def fold(self, offset: int, entry: JournalEntry) -> Difference | None:
        """``take`` for an entry that was decoded already."""
        self._last_offset = offset
        wrong = self._out_of_place(entry)
        if wrong:
            self._lose()
            if entry.kind == "snapshot" and entry.agent == self._spec.name:
                self._begin(offset, entry)
            return self._difference(offset, entry, "journal", wrong)
        if self.agent.sequence == 0 and (entry.kind == "snapshot" or entry.sequence != 1):
            return self._begin(offset, entry)
        if self.agent.sequence == 0:
            self.begun = self.first_sequence = 1
        self.num_entries += 1
        return self._snapshot(offset, entry) if entry.kind == "snapshot" else self._step(offset, entry)

    def end(self) -> Difference | None:
        """What is left to say behind the last record."""
        found, self._digest_differs = self._digest_differs, None
        if found is None and self.num_passed and not self.num_entries:
            what = f"none of the {self.num_passed} entries that were read is a snapshot to begin from"
            return Difference(self._spec.name, self._last_offset, -1, 0, "", "", "journal", what)
        return found

    def _lose(self) -> None:
        """Behind a hole nobody knows the state until a snapshot says it."""
        self.agent = JournaledAgent(self._spec, self._codec)
        self._digest_differs = None

    def _begin(self, offset: int, entry: JournalEntry) -> Difference | None:
        wrong = _spoiled(entry) if entry.kind == "snapshot" else ""
        if entry.kind == "snapshot" and not wrong and self._resume(entry):
            self.first_sequence = self.first_sequence or entry.sequence
            self.num_entries += 1
            self.num_snapshots += 1
            return None
        self.num_passed += 1
        return self._difference(offset, entry, "journal", wrong) if wrong else None

    def _resume(self, entry: JournalEntry) -> bool:
        try:
            self.agent.resume(entry)
        except PoisonRecordError:
            self.num_reshaped += 1
            return False
        self.begun = entry.sequence
        return True

    def _out_of_place(self, entry: JournalEntry) -> str:
        """Why an entry cannot stand where it stands, or nothing."""
        if entry.agent != self._spec.name:
            return f"the entry is of the agent {entry.agent}"
        if entry.kind not in KINDS:
            return f"the entry is of an unknown kind, {entry.kind}"
        if self.agent.sequence == 0:
            return ""
        if entry.sequence != self.agent.sequence + 1:
            return f"sequence {entry.sequence} stands behind {self.agent.sequence}: entries are missing or repeated"
        if entry.time_us < self.agent.time_us:
            return "the time lies before that of the entry before"
        if entry.kind == "record" and self.agent.is_repeat(input_of(entry)):
            return "the input was journaled before"
        return ""

    def _step(self, offset: int, entry: JournalEntry) -> Difference | None:
        try:
            effects = self.agent.apply(input_of(entry), entry.time_us)
        except Exception as error:  # noqa: BLE001 - code under trial may raise anything, and that is what was looked for
            self._lose()
            return self._difference(offset, entry, "effects", f"today's code raises {type(error).__name__}: {error}")
        if not self.agent.same_effects(effects, entry.effects):
            found = self._difference(offset, entry, "effects", self._effects_differ(entry.effects, effects))
            return self._earlier(found)
        if entry.state_digest and entry.state_digest != digest(self.agent.state) and self._digest_differs is None:
            what = "the state does not have the digest that the journal has"
            self._digest_differs = self._difference(offset, entry, "state", what)
        return None

    def _snapshot(self, offset: int, entry: JournalEntry) -> Difference | None:
        self.num_snapshots += 1
        if wrong := _spoiled(entry):
            self.agent.pass_snapshot(entry)
            return self._earlier(self._difference(offset, entry, "journal", wrong))
        if differs := self._state_differs(snapshot_body(entry)):
            found = self._earlier(self._difference(offset, entry, "state", differs))
            self._lose()
            self._resume(entry)
            return found
        self.agent.pass_snapshot(entry)
        found_before, self._digest_differs = self._digest_differs, None
        return found_before

    def _state_differs(self, body: SnapshotBody) -> str:
        """How a snapshot differs from the state here, or nothing; forgets a digest that a change of shape explains."""
        mine = to_json(self.agent.state)
        if body.state != mine:
            try:
                theirs = to_json(from_json(type(self.agent.state), body.state, newer=True))
            except PoisonRecordError:
                theirs = mine  # of another shape: there is nothing to compare
            if theirs != mine:
                return f"the state differs at {first_difference(theirs, mine)}"
            self.num_reshaped += 1
            self._digest_differs = None
        if dict(body.cursors) != self.agent.cursors or dict(body.seen) != self.agent.seen.last:
            return "the cursors are not those of the snapshot"
        return ""

    def _effects_differ(self, was: tuple[JournalEffect, ...], now: tuple[JournalEffect, ...]) -> str:
        for at, (left, right) in enumerate(zip(was, now, strict=False)):
            if self.agent.meaning(left) != self.agent.meaning(right):
                where = f"effect {at} to {left.topic} under {left.key.decode('utf-8', 'replace')}"
                return f"{where} differs at {first_difference(told(self.agent, left), told(self.agent, right))}"
        longer, whose = (was, "only the journal has") if len(was) > len(now) else (now, "only today's code has")
        more = longer[min(len(was), len(now))]
        return f"{whose} effect {min(len(was), len(now))}: {shortened(told(self.agent, more))}"

    def _earlier(self, found: Difference) -> Difference:
        """A digest that differed before, else ``found``."""
        earlier, self._digest_differs = self._digest_differs, None
        return earlier or found

    def _difference(self, offset: int, entry: JournalEntry, part: Part, what: str) -> Difference:
        return Difference(
            self._spec.name, offset, entry.sequence, entry.time_us, entry.kind, input_name(entry), part, what
        )


def _spoiled(entry: JournalEntry) -> str:
    """Why a snapshot is not as it was written, or nothing."""
    try:
        body = snapshot_body(entry)
    except PoisonRecordError as error:
        return f"the snapshot cannot be read ({error})"
    whole = hashlib.sha256(body.state.encode()).digest() == entry.state_digest
    return "" if whole else "the snapshot's state does not have its digest"
