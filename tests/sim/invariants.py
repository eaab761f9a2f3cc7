"""What must hold after every step, whatever failed; each rule has the name that a violation shows.

Checked by what was appended, committed or folded in the step, so that a step costs little however long the run.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from agents.router import home_lane
from schemas.frame import InferenceFrame
from schemas.journal import JournalEntry
from schemas.ledger import LedgerCheckpoint
from schemas.result import InferenceResult
from streams.journal import EFFECT_HEADER
from streams.ledger import source_of
from streams.memory_view import MemoryHead, MemoryView, StoredEvent, extend, model_version, plan, void_reason
from streams.terminals import SET, Terminals
from tests.sim.clients import Client
from tests.sim.frame_process import FrameProcess, Run
from tests.sim.group import Place
from tests.sim.processes import Process
from tests.sim.violation import Violation
from tests.sim.world import FOREVER_US, TOPIC_ID, Appended, World

ONE_RESULT = "one result per request"
ONE_WRITER = "one writer"
CHECKPOINT = "checkpoint holds what stands in results"
COMMIT = "committed offsets never pass unfinished work"
PLANNED = "routed by the plan in memory"
FOLD = "state is the fold of the log"
CHAIN = "memory is one chain"
JOURNAL = "journal is dense"
OUTPUTS = "a result is that of its request"
BOUNDED = "in flight is bounded"
DRAINED = "everything ends once faults do"
MAX_LINKED = 400

Coordinate = tuple[int, int]


class Invariants:
    """Watches a world. ``seen`` holds the coordinates that stand on each topic of the data plane."""

    def __init__(self, world: World, client: Client, muted: tuple[str, ...] = ()) -> None:
        self.world = world
        self.client = client
        self.muted = muted
        self.seen: dict[str, set[Coordinate]] = {}
        self.results: dict[int, list[tuple[int, int]]] = {}
        self.answered: dict[int, dict[int, str]] = {}
        self.checked: dict[tuple[str, Place], int] = {}
        self.head = MemoryHead()
        self.views = [MemoryView()]
        self.versions: dict[str, int] = {}
        self.journal: dict[str, int] = {}
        self.cursors: dict[tuple[str, Place], int] = {}
        self.effects: set[tuple[str, str]] = set()
        self.num_reaped = 0

    def check(self, process: Process | None) -> None:
        """After a step, in which ``process`` (if any) took part."""
        for appended in self.world.appended:
            self.appended(appended)
        self.world.appended.clear()
        for group in self.world.groups.values():
            for place, offset in group.committed.items():
                self.committed(group.name, place, offset)
        if isinstance(process, FrameProcess):
            for run in process.runs.values():
                if run.ready and run.ledger is not None:
                    self.folded(run)
        if sum(len(link.waiting) for link in self.world.links) > MAX_LINKED:
            self.violated(BOUNDED, f"more than {MAX_LINKED} sends are under way")

    def violated(self, invariant: str, what: str) -> None:
        """Raise, unless a test wants to see that the others find the bug without this one."""
        if invariant not in self.muted:
            raise Violation(invariant, what)

    # What was appended.

    def appended(self, appended: Appended) -> None:
        record = appended.record
        place = (record.topic, record.partition)
        if place in self.world.claims and appended.claim != self.world.claims[place]:
            self.violated(
                ONE_WRITER,
                f"{place[0]}-{place[1]} took a record of claim {appended.claim}, not {self.world.claims[place]}",
            )
        match record.topic:
            case "inference.results":
                self.result(record)
            case "inference.ledger-checkpoints":
                self.checkpoint(self.world.wire.decode(record.topic, record.value))
            case "inference.admitted" | "inference.routed" | "inference.executed":
                self.frame(record.topic, record.partition, self.world.wire.decode(record.topic, record.value))
            case "memory.events":
                self.memory(record.value or b"")
            case "control.journal":
                self.journaled(self.world.wire.decode(record.topic, record.value))

    def result(self, record: Any) -> None:
        source = source_of(record.headers)
        if source is None or source[0] != TOPIC_ID or source[1] != record.partition:
            raise Violation(ONE_RESULT, f"the result at {record.partition}@{record.offset} names {source}")
        _, partition, offset = source
        standing = self.answered.setdefault(partition, {})
        if offset in standing:
            self.violated(ONE_RESULT, f"request {partition}@{offset} has a second result at {record.offset}")
        expected = self.client.expected.get((partition, offset))
        if expected is None:
            raise Violation(ONE_RESULT, f"there is no request {partition}@{offset}, but a result")
        result: InferenceResult = self.world.wire.codec.decode(record.topic, record.value)
        code = result.error.code if result.error is not None else result.status
        standing[offset] = code
        self.results.setdefault(partition, []).append((record.offset, offset))
        self.seen.setdefault(record.topic, set()).add((partition, offset))
        self.num_reaped += any(name == "isos-reaped" for name, _ in record.headers)
        self.world.count(f"result {code}")
        if code not in expected.codes and self.world.give_up_us == FOREVER_US:
            self.violated(OUTPUTS, f"request {partition}@{offset} ended with {code}, not {'|'.join(expected.codes)}")
        if code == "OK" and (len(result.outputs) != 1 or result.outputs[0].data != expected.outputs):
            self.violated(OUTPUTS, f"request {partition}@{offset} got outputs that are not its own")

    def checkpoint(self, checkpoint: LedgerCheckpoint) -> None:
        terminals = Terminals.from_bits(checkpoint.low_watermark, checkpoint.bits)
        where = f"checkpoint of partition {checkpoint.partition} at results offset {checkpoint.results_offset}"
        self.equals_fold(CHECKPOINT, where, checkpoint.partition, terminals, checkpoint.results_offset)

    def frame(self, topic: str, partition: int, frame: InferenceFrame) -> None:
        offsets = np.frombuffer(frame.offsets, "<i8").tolist()
        self.seen.setdefault(topic, set()).update((frame.partition, offset) for offset in offsets)
        if topic == "inference.routed":
            view = self.views[frame.memory_sequence]
            for segment in frame.segments:
                effective = plan(view, segment.model)
                if effective is None or model_version(view, segment.model, segment.version) is None:
                    self.violated(
                        PLANNED, f"{segment.model} was routed at sequence {view.sequence}, which has no plan for it"
                    )
                elif home_lane(effective, self.world.log.partitions(topic)) != partition:
                    self.violated(PLANNED, f"{segment.model} went to lane {partition}, which is not the plan's")

    def memory(self, value: bytes) -> None:
        event = self.world.wire.decode("memory.events", value)
        reason = void_reason(self.head, event)
        if reason is not None:
            self.violated(CHAIN, reason)
        self.head = MemoryHead(event.sequence, hashlib.sha256(value).digest())
        self.views.append(extend(self.views[-1], [StoredEvent.of(event, value)])[0])
        if event.body is None:
            self.versions.pop(event.key, None)
        elif event.version <= self.versions.get(event.key, 0):
            self.violated(CHAIN, f"version {event.version} of {event.key} does not follow {self.versions[event.key]}")
        else:
            self.versions[event.key] = event.version

    def journaled(self, entry: JournalEntry) -> None:
        if entry.sequence != self.journal.get(entry.agent, 0) + 1:
            self.violated(
                JOURNAL, f"entry {entry.sequence} of {entry.agent} follows {self.journal.get(entry.agent, 0)}"
            )
        self.journal[entry.agent] = entry.sequence
        place = (entry.input_topic, entry.input_partition)
        self.cursors[entry.agent, place] = max(entry.input_offset, self.cursors.get((entry.agent, place), -1))
        if entry.effect_source:
            self.effects.add((entry.agent, entry.effect_source))

    # What was committed.

    def committed(self, group: str, place: Place, offset: int) -> None:
        first = self.checked.get((group, place), 0)
        if offset <= first:
            return
        for record in self.world.log.scan(*place, first):
            if record.offset >= offset:
                break
            missing = self.unfinished(group, record)
            if missing:
                self.violated(COMMIT, f"{group} committed {place[0]}-{place[1]}@{offset}, but {missing}")
        self.checked[group, place] = offset

    def unfinished(self, group: str, record: Any) -> str:
        """What is not done of a committed record, or an empty string."""
        after = {
            "edge": ("inference.admitted", "inference.executed"),
            "router": ("inference.routed", "inference.executed"),
            "executor": ("inference.executed",),
            "validator": ("inference.results",),
        }.get(group)
        if after is None:
            return self.not_journaled(group, record)
        if group == "edge":
            wanted = [(record.partition, record.offset)]
        else:
            frame: InferenceFrame = self.world.wire.decode(record.topic, record.value)
            wanted = [(frame.partition, offset) for offset in np.frombuffer(frame.offsets, "<i8").tolist()]
        for coordinate in wanted:
            if not any(coordinate in self.seen.get(topic, ()) for topic in after):
                where = f"request {coordinate[0]}@{coordinate[1]} of record {record.offset}"
                return f"{where} stands on none of {', '.join(after)}"
        return ""

    def not_journaled(self, agent: str, record: Any) -> str:
        """A committed input is in the journal, or carried an effect that is."""
        place = (record.topic, record.partition)
        if record.offset <= self.cursors.get((agent, place), -1) or (agent, source_header(record)) in self.effects:
            return ""
        return f"{record.topic}@{record.offset} is not in the journal of {agent}"

    # What was folded.

    def folded(self, run: Run) -> None:
        state = run.state
        if run.checked is state:
            return
        run.checked = state
        where = f"{run.process.name}'s state of partition {state.partition} at results offset {state.results_offset}"
        self.equals_fold(FOLD, where, state.partition, state.terminals, state.results_offset)

    def equals_fold(self, rule: str, where: str, partition: int, terminals: Terminals, results_offset: int) -> None:
        """SET offsets are those of the results below ``results_offset``, beside gaps."""
        low = terminals.low_watermark
        above = np.flatnonzero(terminals.states[low - terminals.base :] == SET) + low
        requests = self.client.requests[partition]
        given = {offset for offset in above.tolist() if offset in requests}
        below = {offset for offset in requests if offset < low}
        stands = {offset for at, offset in self.results.get(partition, []) if at < results_offset}
        if given | below != stands:
            self.violated(rule, f"{where} differs on the requests {sorted((given | below) ^ stands)[:5]}")

    # What holds once nothing is under way any more and no fault happened for a while.

    def final(self) -> None:
        """Every request has its result, nobody was reaped, everything is committed, memory.state is what memory is."""
        missing = self.missing()
        if missing:
            self.violated(ONE_RESULT, f"requests {missing[:5]} (partition, offset) have no result")
        if self.num_reaped and self.world.give_up_us == FOREVER_US:
            self.violated(ONE_RESULT, f"{self.num_reaped} requests were ended by the reaper")
        for group in self.world.groups.values():
            for place in group.places:
                left = self.world.log.read(*place, group.committed.get(place, 0), 1)
                if left:
                    self.violated(DRAINED, f"{group.name} never committed {place[0]}-{place[1]}@{left[0].offset}")
        state = {record.key: record.value for record in self.world.log.scan("memory.state", 0)}
        entries = {key.encode(): entry for key, entry in self.views[-1].entries.items()}
        decode = self.world.wire.decode
        if {key: decode("memory.state", value) for key, value in state.items() if value is not None} != entries:
            self.violated(FOLD, "memory.state is not what the events of memory say")

    def missing(self) -> list[Coordinate]:
        """Requests without a result."""
        return [
            (partition, offset)
            for partition, requests in self.client.requests.items()
            for offset in sorted(requests - set(self.answered.get(partition, ())))
        ]


def source_header(record: Any) -> str:
    """Id of the effect that a record carries, or an empty string."""
    return next((value.decode() for name, value in record.headers if name == EFFECT_HEADER), "")
