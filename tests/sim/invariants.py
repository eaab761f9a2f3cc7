"""What must hold after every step, whatever failed; each rule has the name that a violation shows.

Checked by what was appended, committed or folded in the step, so that a step costs little however long the run.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from agents.route import home_lane, num_ready
from schemas.frame import InferenceFrame
from schemas.ledger import LedgerCheckpoint
from schemas.plan import Plan
from schemas.result import InferenceResult
from streams.columns import HEDGE, SHADOW, segment_starts
from streams.ledger import source_of
from streams.memory_log import LogRecord
from streams.memory_view import model_version, ordered_models, plan
from streams.run_window import UNFINISHED_WINDOWS
from streams.terminals import SET, Terminals
from tests.sim.breaker_invariants import BreakerInvariants
from tests.sim.cache_invariants import CacheInvariants
from tests.sim.canary_rules import CanaryInvariants
from tests.sim.clients import Client
from tests.sim.commit_invariants import CommitInvariants, Coordinate, coordinates, copy_of
from tests.sim.control_invariants import FOLD as FOLD
from tests.sim.control_invariants import ControlInvariants
from tests.sim.order_invariants import OrderInvariants
from tests.sim.processes import Process
from tests.sim.retry_invariants import RetryInvariants
from tests.sim.roles import WatchedRun
from tests.sim.shadow_invariants import ShadowInvariants
from tests.sim.substitutes import BOUNDS
from tests.sim.violation import Violation
from tests.sim.world import FOREVER_US, LANES, TOPIC_ID, Appended, World

ONE_RESULT = "one result per request"
ONE_WRITER = "one writer"
CHECKPOINT = "checkpoint holds what stands in results"
PLANNED = "routed by the plan in memory"
OUTPUTS = "a result is that of its request"
ONE_INPUT = "one input per request id"
ONE_HOLDER = "of the requests with one id, one is not refused for it"
COPY = "a copy counts only where it went well"
BOUNDED = "in flight is bounded"
DRAINED = "everything ends once faults do"
DEFECT = "no code fails"
MAX_LINKED = 2_000
REDIS_TROUBLE = ("redis away", "redis flushed", "redis answers lost", "redis answers late")


def _may_go(effective: Plan, ready: int | None, lane: int, *, elsewhere: bool) -> bool:
    """Whether a frame of a plan's rows may stand in a lane; ``elsewhere``: a copy, or another try."""
    if ready is None:
        return (home_lane(effective, LANES) != lane) == elsewhere
    return lane < max(1, ready) or (lane == home_lane(effective, LANES) and effective.lane >= 0)


class Invariants:
    """Watches a world. ``seen`` holds the coordinates that stand on each topic of the data plane."""

    def __init__(self, world: World, client: Client, muted: tuple[str, ...] = ()) -> None:
        self.world = world
        self.client = client
        self.muted = muted
        self.order = OrderInvariants(client.lines, self.violated)
        self.control = ControlInvariants(world, self.violated)
        self.retries = RetryInvariants(world, self.violated)
        self.breakers = BreakerInvariants(world, self.control.views, self.violated)
        self.cache = CacheInvariants(world, self.control.views, self.violated)
        self.canaries = CanaryInvariants(world, self.control.views, self.violated)
        self.shadows = ShadowInvariants(world, self.control.views, client, self.violated)
        self.seen: dict[str, set[Coordinate]] = {}
        self.commits = CommitInvariants(world, self.seen, self.control, self.retries, self.violated)
        self.results: dict[int, tuple[list[int], list[int]]] = {}
        self.answered: dict[int, dict[int, str]] = {}
        self.inputs: dict[str, bytes] = {}
        self.num_reaped = 0

    def check(self, process: Process | None) -> None:
        """After a step, in which ``process`` (if any) took part."""
        world = self.world
        if world.appended:
            appended, world.appended = world.appended, []
            for each in appended:
                self.appended(each)
        if world.commits:
            commits, world.commits = world.commits, []
            for group, place, offset in commits:
                self.commits.committed(group, place, offset)
        if world.looked_up:
            looked_up, world.looked_up = world.looked_up, []
            for view, found in looked_up:
                self.cache.found(view, found)
        if world.compared:
            compared, world.compared = world.compared, []
            for said in compared:
                self.shadows.compared(said)
        if process is not None:
            if process.defect is not None:
                raise Violation(DEFECT, f"{process.name}: {process.defect!r}") from process.defect
            for run in process.runs.values():
                bound = BOUNDS["streams.run_window"][1]
                if run.window.num_sending > bound or len(run.window) > UNFINISHED_WINDOWS * bound:
                    self.violated(BOUNDED, f"{process.name} has {len(run.window)} frames of a partition under way")
                if run.effects.ledger is not None and run.checked is not run.state:
                    self.folded(run)
        if len(world.links) > 20 and sum(len(link.waiting) for link in world.links) > MAX_LINKED:
            self.violated(BOUNDED, f"more than {MAX_LINKED} sends are under way")

    def violated(self, invariant: str, what: str, *about: str) -> None:
        """Raise, unless a test wants to see that the others find the bug without this one."""
        if invariant not in self.muted:
            raise Violation(invariant, what, about)

    # What was appended.

    def appended(self, appended: Appended) -> None:
        record = appended.record
        place = (record.topic, record.partition)
        if place in self.world.claims and appended.claim != self.world.claims[place]:
            self.violated(
                ONE_WRITER,
                f"{place[0]}-{place[1]} took a record of claim {appended.claim}, not {self.world.claims[place]}",
                f"{place[0]}-{place[1]}",
            )
        match record.topic:
            case "inference.results":
                self.result(record)
            case "inference.ledger-checkpoints":
                self.checkpoint(self.world.codec.decode(record.topic, record.value))
            case "inference.admitted" | "inference.routed" | "inference.retries" | "inference.executed":
                frame = self.world.readable(record.topic, record.value)
                if frame is not None and frame.topic_id == TOPIC_ID:
                    self.frame(record.topic, record.partition, frame)
            case "inference.dlq":
                self.commits.letters.add(record.key or b"")
            case _:
                self.control.appended(record)

    def result(self, record: LogRecord) -> None:
        source = source_of(record.headers)
        if source is None or source[0] != TOPIC_ID or source[1] != record.partition:
            raise Violation(ONE_RESULT, f"the result at {record.partition}@{record.offset} names {source}")
        _, partition, offset = source
        name = f"{partition}@{offset}"
        standing = self.answered.setdefault(partition, {})
        if offset in standing:
            self.violated(ONE_RESULT, f"request {name} has a second result at {record.offset}", name)
        expected = self.client.expected.get((partition, offset))
        if expected is None:
            raise Violation(ONE_RESULT, f"there is no request {name}, but a result", (name,))
        result: InferenceResult = self.world.codec.decode(record.topic, record.value)
        self.shadows.result(result, name)
        code = result.error.code if result.error is not None else result.status
        self.world.tell(f"result of {name}: {code}")
        standing[offset] = code
        places, offsets = self.results.setdefault(partition, ([], []))
        places.append(record.offset)
        offsets.append(offset)
        self.seen.setdefault(record.topic, set()).add((partition, offset))
        self.num_reaped += any(header == "isos-reaped" for header, _ in record.headers)
        self.world.count(f"result {code}")
        if result.provenance is not None and result.provenance.cached:
            self.world.count("earlier answers")
        if not self.client.may_end(expected, code) and self.world.profile.give_up_us == FOREVER_US:
            self.violated(OUTPUTS, f"request {name} ended with {code}, not {'|'.join(expected.codes)}", name)
        reaped = any(header == "isos-reaped" for header, _ in record.headers)
        counting = (source[1:], copy_of(source[1:])) if code == "OK" else (source[1:],)
        if not reaped and not any(each in self.seen.get("inference.executed", ()) for each in counting):
            self.violated(COPY, f"request {name} ended with {code}, which no row of its own says", name)
        if code != "OK":
            return
        if result.provenance is None or not result.provenance.cached:
            self.order.ended_well(partition, offset)
        if len(result.outputs) != 1 or result.outputs[0].data != expected.outputs:
            self.violated(OUTPUTS, f"request {name} got outputs that are not its own", name)
        first = self.inputs.setdefault(result.request_id, expected.outputs)
        if first != expected.outputs and not any(self.world.counts.get(trouble) for trouble in REDIS_TROUBLE):
            self.violated(ONE_INPUT, f"id {result.request_id} was answered for two inputs, last {name}", name)

    def checkpoint(self, checkpoint: LedgerCheckpoint) -> None:
        terminals = Terminals.from_bits(checkpoint.low_watermark, checkpoint.bits)
        where = f"checkpoint of partition {checkpoint.partition} at results offset {checkpoint.results_offset}"
        self.equals_fold(CHECKPOINT, where, checkpoint.partition, terminals, checkpoint.results_offset)

    def frame(self, topic: str, partition: int, frame: InferenceFrame) -> None:
        offsets = np.frombuffer(frame.offsets, "<i8").tolist()
        gaps = np.frombuffer(frame.gaps, "<i4").tolist()
        rows = [
            f"{frame.partition}@{o}{f' behind a gap of {gap}' if gap else ''}"
            for o, gap in zip(offsets, gaps, strict=True)
        ]
        self.world.tell(f"{topic}-{partition} has {', '.join(rows)}")
        if SHADOW in frame.roles:
            self.shadows.frame(topic, frame)
            return
        self.seen.setdefault(topic, set()).update(coordinates(frame))
        self.retries.frame(topic, partition, frame)
        self.breakers.frame(topic, frame)
        self.canaries.frame(topic, frame)
        if topic != "inference.routed":
            return
        copies = HEDGE in frame.roles
        elsewhere = copies or frame.attempt > 0
        self.world.count("copies", frame.roles.count(HEDGE))
        view = self.control.views[frame.memory_sequence]
        for first, segment in zip(segment_starts(frame), frame.segments, strict=False):
            if frame.statuses[first]:  # it ended before, and keeps its place among the rows of its key
                continue
            effective = plan(view, segment.model)
            if effective is None or model_version(view, segment.model, segment.version) is None:
                self.violated(
                    PLANNED, f"{segment.model} was routed at sequence {view.sequence}, which has no plan for it"
                )
            elif segment.model in ordered_models(view):
                is_models = _may_go(effective, num_ready(view), partition, elsewhere=False)
                for row in range(first, first + segment.num_rows):
                    self.order.routed(frame, segment.model, row, partition, is_models=is_models)
            elif not _may_go(effective, num_ready(view), partition, elsewhere=elsewhere):
                self.violated(PLANNED, f"{segment.model} went to lane {partition}, which is not the plan's")
            elif copies and not effective.hedge:
                self.violated(PLANNED, f"a row of {segment.model} was copied, which no plan says")

    # What was folded.

    def folded(self, run: WatchedRun) -> None:
        state = run.checked = run.state
        name = run.process.name
        where = f"{name}'s state of partition {state.partition} at results offset {state.results_offset}"
        self.equals_fold(FOLD, where, state.partition, state.terminals, state.results_offset)

    def equals_fold(self, rule: str, where: str, partition: int, terminals: Terminals, results_offset: int) -> None:
        """SET offsets are those of the results below ``results_offset``, beside gaps."""
        low = terminals.low_watermark
        requests, ordered = self.client.requests[partition], self.client.ordered[partition]
        above = (np.flatnonzero(terminals.states[low - terminals.base :] == SET) + low).tolist()
        given = set(ordered[: bisect_left(ordered, low)])
        given.update(offset for offset in above if offset in requests)
        places, offsets = self.results.get(partition, ([], []))
        stands = set(offsets[: bisect_left(places, results_offset)])
        if given != stands:
            differ = sorted(given ^ stands)[:5]
            self.violated(rule, f"{where} differs on the requests {differ}", *[f"{partition}@{o}" for o in differ])

    # What holds once nothing is under way any more and no fault happened for a while.

    def unsettled(self, processes: list[Process]) -> str:
        """What should come about by itself and has not yet, or an empty string.

        Effects of journals, memory.state, and low watermarks that reach the last request.
        """
        for partition, ordered in self.client.ordered.items():
            for process in processes:
                run = process.runs.get(partition)
                if run is None or run.effects.ledger is None or not run.shell.takeover.is_current(run.held):
                    continue
                low = run.state.terminals.low_watermark
                if ordered and low <= ordered[-1]:
                    return f"the low watermark of partition {partition} is {low}, its last request {ordered[-1]}"
        return self.control.unsettled()

    def final(self) -> None:
        """Every request has its result, nobody was reaped, everything is committed."""
        self.retries.final()
        missing = self.missing()
        if missing:
            names = [f"{partition}@{offset}" for partition, offset in missing[:3]]
            self.violated(ONE_RESULT, f"requests {missing[:5]} (partition, offset) have no result", *names)
        if self.num_reaped and self.world.profile.give_up_us == FOREVER_US:
            self.violated(ONE_RESULT, f"{self.num_reaped} requests were ended by the reaper")
        if not any(self.world.counts.get(trouble) for trouble in REDIS_TROUBLE):
            self.every_id_has_a_holder()
        for group in self.world.groups.values():
            for place in group.places:
                left = self.world.log.read(*place, group.committed.get(place, 0), 1)
                if left:
                    self.violated(DRAINED, f"{group.name} never committed {place[0]}-{place[1]}@{left[0].offset}")

    def every_id_has_a_holder(self) -> None:
        """Two requests must never be refused for the sake of each other."""
        codes: dict[str, set[str]] = {}
        for (partition, offset), expected in self.client.expected.items():
            if expected.request_id:
                codes.setdefault(expected.request_id, set()).add(self.answered[partition][offset])
        for request_id, ended in codes.items():
            if ended == {"duplicate_in_flight"}:
                self.violated(ONE_HOLDER, f"every request with the id {request_id} was refused for another one's sake")

    def missing(self) -> list[Coordinate]:
        """Requests without a result."""
        return [
            (partition, offset)
            for partition, requests in self.client.requests.items()
            for offset in sorted(requests - set(self.answered.get(partition, ())))
        ]
