"""From queued rows to executed rows: the executor without Kafka and without a loop.

Whoever drives it adds frames, asks for the next batch, runs it where it likes (``compute`` may run in a thread), and
hands back what came of it. Every row added ends once in the outbox. A batch that fails runs again in halves, until only
the rows at fault have the error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from math import inf
from typing import Final

import numpy as np

from executors.attempts import Attempts
from executors.blob_fetch import Claim
from executors.check_rows import client_items, num_client_rows
from executors.direct import DirectRun, distinct_items, outputs_of, planned, run_all
from executors.executed import Work
from executors.failed_rows import FailedRows
from executors.intake import Intake, Ordered, Sessions
from executors.outbox import BatchFacts, Outbox
from executors.profile import Profile, Version
from executors.reruns import Reruns
from executors.retry import MAX_ATTEMPTS, Retries
from executors.row_queue import Batch
from executors.row_slice import RowSlice
from executors.run import Run, WorkerCounts
from executors.running import Running
from executors.service_time import ServiceTimes
from executors.session import Session
from executors.statistics import RowStatistics
from executors.utilisation import Utilisation
from streams.check_rows import has_checks
from streams.columns import REJECTED
from streams.key_order import has_ended_rows

OBSERVED: Final = 8
"""Of so many frames that ran at once, one batch is measured for t(n) and stands for all of theirs."""


def _none_is_ordered(_sequence: int) -> Container[str]:
    return frozenset()


class Execution:
    """Queues, batches and finished rows of one executor. ``freed`` hears of the bytes of blobs that are done with.

    ``ordered``: models whose rows are served in the order they come (``executors/lines.py``), as of a memory sequence.
    ``max_attempts``: tries of a model's rows, everywhere. ``corrects``: whether what it measures corrects the profiles.
    """

    def __init__(
        self,
        name: str,
        loaded: Sessions,
        freed: Callable[[int], None],
        ordered: Ordered = _none_is_ordered,
        max_attempts: Callable[[str], int] = lambda _model: MAX_ATTEMPTS,
        *,
        corrects: bool = True,
    ) -> None:
        self._corrects = corrects
        self._loaded = loaded
        self._times = ServiceTimes()
        self._running = Running()
        self.retries = Retries(max_attempts)
        self.outbox = Outbox(name, freed)
        self.counts = WorkerCounts()
        self.attempts = Attempts()
        self.failed = FailedRows(self.outbox, self.retries, self.counts, self.attempts)
        self._reruns = Reruns(self.retries, self.failed, ordered)
        self.intake = Intake(loaded, self.failed, self.outbox, self.counts, self.attempts, ordered)
        self.utilisation = Utilisation(time.time_ns() / 1000)
        self.statistics = RowStatistics(name, time.time_ns() // 1000)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits here that could run, or runs."""
        return not (self._running or self.intake.queued_items or self._reruns)

    def clear(self) -> None:
        """Forget everything under way: a rebalance voided it."""
        self._reruns.clear()
        self.intake.clear(self._running)  # what a thread still computes has its session until ``abandon``
        self.outbox.clear()

    def add(self, work: Work, now_us: int) -> list[Claim]:
        """Queue a frame's rows; the claims are those whose inputs must be fetched first (``Intake.add_fetched``)."""
        self.counts.num_frames += 1
        self.counts.num_rows += work.left
        self.retries.tried(work.frame)
        return self.intake.add(work, now_us)

    def run_alone(self, work: Work, now_us: int, budget_us: float) -> bool:
        """Run a frame at once, as it is; False, and nothing done, where the queues must have a say in it."""
        if self.intake.batcher.queued_items or self._reruns or has_ended_rows(work.frame):
            return False
        if self.intake.keeps_order(work.frame):
            return False
        if self._running and any((each.model, each.version) in self._running for each in work.frame.segments):
            return False
        runs = planned(work, self._loaded.sessions, self._loaded.profiles, now_us, budget_us)
        if runs is None:
            return False
        counts = self.counts
        counts.num_frames += 1
        counts.num_rows += work.left
        self.retries.tried(work.frame)
        run_all(runs)
        for run in runs:
            self._finish_alone(work, run, now_us)
        last = runs[-1]
        self.utilisation.busy_us += last.started_us + last.run_us - runs[0].started_us
        if counts.num_frames % OBSERVED == 0:
            self._observe_one(runs, counts.num_frames // OBSERVED % len(runs))  # another model each time
        return True

    def _observe_one(self, runs: list[DirectRun], number: int) -> None:
        """Measure one batch of a frame that ran at once, for all those since the last one."""
        run = runs[number]
        if run.error is None:
            self._measure((run.segment.model, run.segment.version), run.session, distinct_items(run), run.run_us)
            self.utilisation.sample(distinct_items(run), run.session.profile, OBSERVED * len(runs))

    def _finish_alone(self, work: Work, run: DirectRun, now_us: int) -> None:
        """Take what came of a batch of a frame that ran at once."""
        counts = self.counts
        counts.num_batches += 1
        version = (run.segment.model, run.segment.version)
        if run.error is not None:
            rows = [_whole(work, run.number, now_us)]
            self._reruns.take(Run(run.session, version, rows, run.num_items, float(run.run_us)), run.error)
            self._release(version)
            return
        if run.places is not None:
            counts.num_coalesced += run.num_items - distinct_items(run)
        outputs = outputs_of(run)
        checked = [_whole(work, run.number, now_us)] if has_checks(work.frame) else None
        watched = self.statistics.watched
        if watched and version in watched:
            items = None if checked is None else client_items(checked)
            watched[version].note(run.inputs, outputs, run.places, run.num_items, run.started_us, items)
        facts = BatchFacts(counts.num_batches, run.num_items, run.started_us, run.run_us)
        if not self.outbox.finish_segment(work, run.number, run.session, outputs, facts, now_us):
            self.outbox.finish([_whole(work, run.number, now_us)], run.session, outputs, facts)
        self.attempts.passed(version, run.segment.num_rows if checked is None else num_client_rows(checked))

    def next(self, now_us: int, max_time_us: float = inf) -> Run | None:
        """The next batch to run, of at most ``max_time_us``; rows that come too late end on the way.

        Its version runs nothing else until ``done`` is told, but for one batch of more urgent rows beside it.
        """
        run = self._reruns.next(self._running, max_time_us)
        if run is not None:
            return self._begun(run)
        if self.intake.lines:
            self.intake.feed({version[0] for version in (*self._running, *self._reruns.versions())})
        batcher = self.intake.batcher
        while (batch := batcher.next_batch(now_us, self._loaded.profiles, max_time_us)) is not None:
            for row_slice in batch.expired:
                self.intake.expire((batch.key.model, batch.key.version), row_slice, now_us)
            if batch.expired and not batch.slices and batch.expired[-1].earliest_us > now_us:
                self._give_up((batch.key.model, batch.key.version))
            made = self._run_of(batch) if batch.slices else None
            if made is not None:
                return self._begun(made)
        return None

    def _begun(self, run: Run) -> Run:
        self.intake.batcher.busy[run.version] = 0
        self._running.begin(run)
        return run

    def let_pass(self, run: Run) -> None:
        """A batch runs in a thread from now on: more urgent rows of its version may run beside it."""
        self._running.let_pass(run)
        self._release(run.version)

    def _release(self, version: Version) -> None:
        """Let the batcher go on with a version as far as it may."""
        busy = self.intake.batcher.busy
        if self._reruns.holds(version):
            busy[version] = 0
        elif version in self._running:
            busy[version] = self._running.below(version)
        else:
            busy.pop(version, None)

    def run_short(self, now_us: int, budget_us: float, inline_us: float, max_long: int) -> list[Run] | None:
        """Run waiting batches for about ``budget_us``; give back those of ``inline_us`` and more, ``max_long`` at most.

        None when there was nothing to do. One step after the other for all batches, because code that just ran for one
        batch runs faster for the next than after a session has been through the processor's caches.
        """
        if not (self.intake.batcher.queued_items or self._reruns or self.intake.lines or self.retries):
            return None
        short: list[Run] = []
        long: list[Run] = []
        while budget_us > 0.0:
            run = self.next(now_us, inf if len(long) < max_long else inline_us)
            if run is None:
                break
            if run.time_us >= inline_us:
                long.append(run)
            else:
                short.append(run)
                budget_us -= run.time_us
        for run in short:
            run.prepare()
        for run in short:
            run.compute()
        for run in short:
            self.done(run)
        return long if short or long else None

    def _run_of(self, batch: Batch) -> Run | None:
        version = (batch.key.model, batch.key.version)
        session = self._loaded.sessions[version]
        for row_slice in batch.slices:
            if row_slice.frame.fetched:  # rare: only then is there something that the door could not check
                return self._checked(batch, session, version)
        return Run(session, version, batch.slices, batch.num_items, batch.time_us)

    def _checked(self, batch: Batch, session: Session, version: Version) -> Run | None:
        slices = [each for each in batch.slices if self._admit_fetched(each, session)]
        return Run(session, version, slices, sum(each.num_items for each in slices), batch.time_us) if slices else None

    def _admit_fetched(self, row_slice: RowSlice, session: Session) -> bool:
        """What the door could not check of a blob that the client stored: NaN and infinity."""
        fetched = row_slice.frame.fetched.get(row_slice.segment)
        if fetched is None or not fetched.not_finite:
            return True
        for spec in session.model.inputs:
            if spec.name in fetched.not_finite and not spec.allow_nan:
                reason = f"input {spec.name} holds NaN or infinity, which the model's manifest forbids"
                self.outbox.end(row_slice, REJECTED, "not_finite", reason)
                return False
        return True

    def done(self, run: Run) -> None:
        """Take what came of a batch."""
        self._running.end(run)
        self.counts.num_batches += 1
        if run.error is not None:
            self._reruns.take(run, run.error)
            self._release(run.version)
            return
        assert run.outputs is not None
        self.counts.num_coalesced += run.num_coalesced
        watched = self.statistics.watched
        if watched and run.version in watched:
            items = client_items(run.slices)
            watched[run.version].note(run.inputs, run.outputs, run.places, run.num_items, run.started_us, items)
        facts = BatchFacts(self.counts.num_batches, run.num_items, run.started_us, run.run_us)
        self.outbox.finish(run.slices, run.session, run.outputs, facts)
        self.attempts.passed(run.version, num_client_rows(run.slices))
        self._release(run.version)
        num_items = run.num_items - run.num_coalesced
        self.utilisation.observe(num_items, run.run_us, run.session.profile)
        self._measure(run.version, run.session, num_items, run.run_us)

    def occupy(self, run: Run) -> None:
        """Somebody else's batch is under way in a session of ours, until ``abandon``: its version runs nothing here."""
        self._begun(run)

    def abandon(self, run: Run) -> None:
        """A batch has ended that was forgotten meanwhile: its session is free."""
        self._running.end(run)
        self._release(run.version)

    def _measure(self, version: Version, session: Session, num_items: int, run_us: int) -> None:
        self._correct(version, self._times.of(version, session.profile).observe(num_items, run_us))

    def _give_up(self, version: Version) -> None:
        """A batch that is still in time was too slow for it by its profile alone."""
        self._correct(version, self._times.of(version, self._loaded.sessions[version].profile).give_up())

    def _correct(self, version: Version, corrected: Profile | None) -> None:
        if corrected is not None and self._corrects:
            before = self._loaded.profiles.get(version, corrected)
            self._loaded.profiles[version] = corrected.bounded(before.bound, before.allowed)


def _whole(work: Work, number: int, now_us: int) -> RowSlice:
    """All rows of a segment."""
    rows = slice(work.starts[number], work.starts[number + 1])
    row_items: list[int] = np.frombuffer(work.frame.row_items, "<u2")[rows].tolist()
    deadlines_us: list[int] = np.frombuffer(work.frame.deadlines_us, "<i8")[rows].tolist()
    return RowSlice(
        work, number, 0, len(row_items), 0, sum(row_items), work.frame.priorities[rows.start], now_us,
        min(deadlines_us), row_items, deadlines_us,
    )  # fmt: skip
