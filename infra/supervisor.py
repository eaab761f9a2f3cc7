"""Supervisor of a pool of executors: makes their number what the Scaler decided, tells the Routers, and confirms.

The newest ``ScaleAction`` that is no hold counts. Up: the launcher starts executors, and when all are ready (models
warm, a member of their group) memory says so (``replicas/<pool>``): only then do Routers use the new lanes. Down:
memory says so first, then the highest executors finish what they have begun and end; what was routed to their lanes is
read by the others. An action ends in one ``ScaleConfirmation``: done, failed (what stood before stands again) or held.

Nothing is ended because something cannot be read: without a broker, without memory's answer or without a stack nothing
is done until there is one. An action that a dead supervisor began is carried out by the next one. After a restart of
the stack, which begins with the settings' number, the noted number comes back where a scaling policy stands.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from infra.launcher import Launcher, LauncherAwayError, PoolState
from infra.pools import FAST, Pool
from infra.scale_gate import outside
from schemas.coordinate import RecordCoordinate
from schemas.scaling import Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from streams.audit_operation import FAILED, REFUSED, Audited, Facts, unaudited
from streams.errors import IsosError
from streams.lane_class import POOL, SLOW_POOL

log = logging.getLogger(__name__)

START_S: Final = 45.0
"""An executor loads and warms every planned model before it is ready. With ``STOP_S`` less than the Scaler waits."""
STOP_S: Final = 12.0
LOOK_S: Final = 0.05
LAUNCHER_LOOK_S: Final = 1.0
POLICY_S: Final = 2.0
"""By then memory was read as far as the Scaler had read it."""
MAX_AGE_US: Final = 60_000_000
"""An action that was decided on longer ago is not begun: its Scaler has given it up, and will say what it wants."""


class RefusedError(IsosError):
    """The Orchestrator refused what the supervisor noted; ``sentence`` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class ReplicaMemory(Protocol):
    """The part of memory that a supervisor reads and writes."""

    def noted(self) -> int | None:
        """How many replicas Routers count on; None where nobody said."""

    def policy(self) -> ScalingPolicy | None:
        """The policy by which the pool is scaled, or None."""

    async def note(self, noted: Replicas, reason: str, causes: tuple[RecordCoordinate, ...]) -> None:
        """Have it stand in memory. Raises RefusedError, or RetriableError when nobody answers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An action that is to be carried out, and where it stands."""

    action: ScaleAction
    cause: RecordCoordinate


class _SupersededError(IsosError):
    """A newer action came."""


Confirm = Callable[[ScaleConfirmation], Awaitable[None]]
"""Publishes a confirmation; raises RetriableError."""


class Supervisor:
    """Carries out one action of ``pool`` at a time. ``confirmed``: ids of actions that were carried out before."""

    def __init__(
        self,
        launcher: Launcher,
        memory: ReplicaMemory,
        confirm: Confirm,
        *,
        pool: Pool = FAST,
        confirmed: Collection[str] = (),
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        start_s: float = START_S,
        stop_s: float = STOP_S,
        audited: Audited = unaudited,
    ) -> None:
        self._audited = audited
        self._pool = pool
        self._launcher = launcher
        self._memory = memory
        self._confirm = confirm
        self._confirmed = frozenset(confirmed)
        self._clock_us = clock_us
        self._start_s = start_s
        self._stop_s = stop_s
        self._asked: Asked | None = None
        self._wake = asyncio.Event()

    def ask(self, action: ScaleAction, offset: int) -> None:
        """Hear of an action, in the order of the log; the newest counts."""
        if action.pool != self._pool.name or action.decision == "hold":
            return
        self._asked = None
        if action.action_id in self._confirmed:
            return
        if self._clock_us() - action.time_us > MAX_AGE_US:
            log.info("%s was decided on too long ago to be carried out", action.action_id)
            return
        self._asked = Asked(action, RecordCoordinate("control.scale-actions", 0, offset))
        self._wake.set()

    async def run(self) -> None:
        """Carry out what is asked for until cancelled. Raises RetriableError where broker or memory do not answer."""
        restored = False
        while True:
            if self._asked is not None:
                restored = True  # what stood before does not count any more
                await self._work(self._asked)
                continue
            restored = restored or await self._restored()
            self._wake.clear()
            try:
                async with asyncio.timeout(None if restored else LAUNCHER_LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _work(self, asked: Asked) -> None:
        action, began = asked.action, time.monotonic()
        facts = Facts(resources=(f"{self._pool.name}={action.target_replicas}",), command_id=action.action_id)
        with self._audited(f"{POOL}.{action.decision}", facts) as operation:
            confirmation = await self._outcome(asked)
            await self._confirm(confirmation)
            operation.metric("replicas", confirmation.replicas)
            operation.affected(*self._pool.names(max(confirmation.replicas, action.current_replicas)))
            if confirmation.outcome != "done":
                operation.ends(REFUSED if confirmation.outcome == "held" else FAILED, confirmation.reason)
        log.info(
            "%s to %d %s, %s after %.1f s, %d are ready. %s", action.decision, action.target_replicas, self._pool.name,
            confirmation.outcome, time.monotonic() - began, confirmation.replicas, confirmation.reason,
        )  # fmt: skip
        if self._asked is asked:
            self._asked = None

    async def _outcome(self, asked: Asked) -> ScaleConfirmation:
        action = asked.action
        try:
            return await self._carry_out(asked)
        except LauncherAwayError as error:
            sentence = f"Nothing can be started or ended: {error.reason}."
            return self._said(action, action.current_replicas, "held", sentence)
        except _SupersededError:
            return self._said(action, self._num_ready(action), "held", "A newer action came.")
        except RefusedError as error:
            return self._said(action, self._num_ready(action), "failed", error.sentence)

    def _num_ready(self, action: ScaleAction) -> int:
        """How many serve now; where nobody can tell, as many as the Scaler saw: not knowing is not none."""
        try:
            return self._launcher.state().num_ready
        except LauncherAwayError:
            return action.current_replicas

    async def _carry_out(self, asked: Asked) -> ScaleConfirmation:
        action, state = asked.action, await self._present(asked)
        target = action.target_replicas
        if not 0 <= target <= state.most:
            setting = "max_slow_executors" if self._pool.name == SLOW_POOL else "max_executors"
            sentence = f"There may be 0 to {state.most} executors (setting {setting}), not {target}."
            return self._said(action, state.num_ready, "held", sentence)
        if sentence := await self._refused(asked, state.most):
            return self._said(action, state.num_ready, "held", sentence)
        begun = action.decision == "scale_down" and target == state.wanted
        if begun or target < max(state.wanted, len(state.running)):
            return await self._down(asked, state, target)
        return await self._up(asked, state, target)

    async def _refused(self, asked: Asked, most: int) -> str:
        """Why the policy does not allow it, or ""; a policy that the Scaler knows already is on its way here."""
        give_up = time.monotonic() + POLICY_S
        while (sentence := outside(asked.action, self._memory.policy(), most)) and time.monotonic() < give_up:
            if self._asked is not asked:
                raise _SupersededError
            await asyncio.sleep(LOOK_S)
        return sentence

    async def _present(self, asked: Asked) -> PoolState:
        """What runs now; a stack that is still starting, this process with it, is waited for. LauncherAwayError."""
        while True:
            try:
                return self._launcher.state()
            except LauncherAwayError as error:
                if not error.soon or self._clock_us() - asked.action.time_us >= MAX_AGE_US:
                    raise
            if self._asked is not asked:
                raise _SupersededError
            await asyncio.sleep(LAUNCHER_LOOK_S)

    async def _up(self, asked: Asked, before: PoolState, target: int) -> ScaleConfirmation:
        self._launcher.set(target)
        state, ready = await self._until(lambda now: now.num_ready == target, target, self._start_s, asked)
        if ready:
            await self._note(asked, target)
            return self._said(asked.action, state.num_ready, "done")
        self._launcher.set(before.wanted)
        missing = ", ".join(name for name in self._pool.names(target) if name not in state.ready) or "the stack"
        stopped = tuple(name for name in state.running if name not in self._pool.names(before.wanted))
        state, _ = await self._until(
            lambda now: not set(stopped) & set(now.running), before.wanted, self._stop_s, asked
        )
        sentence = f"Within {self._start_s:g} s did not get ready: {missing}."
        return self._said(asked.action, state.num_ready, "failed", sentence, stopped)

    async def _down(self, asked: Asked, before: PoolState, target: int) -> ScaleConfirmation:
        await self._note(asked, target)
        self._launcher.set(target)
        most = max(before.wanted, len(before.running), asked.action.current_replicas)
        stopped = self._pool.names(most)[target:]  # also those that a dead supervisor has ended for it
        state, gone = await self._until(lambda now: not set(stopped) & set(now.running), target, self._stop_s, asked)
        if gone:  # one of the others may just be starting anew: it counts all the same
            return self._said(asked.action, target, "done", stopped=stopped)
        left = ", ".join(name for name in stopped if name in state.running)
        return self._said(asked.action, state.num_ready, "failed", f"After {self._stop_s:g} s still run: {left}.")

    async def _note(self, asked: Asked, count: int) -> None:
        noted = Replicas(self._pool.name, count, asked.action.action_id)
        await self._memory.note(noted, asked.action.reason, (asked.cause,))

    async def _until(
        self, holds: Callable[[PoolState], bool], wanted: int, seconds: float, asked: Asked | None
    ) -> tuple[PoolState, bool]:
        """Wait for what was asked for, at most so long; the state then, and whether it holds."""
        give_up = time.monotonic() + seconds
        while True:
            state = self._launcher.state()
            if state.wanted == wanted and holds(state):
                return state, True
            if time.monotonic() > give_up:
                return state, False
            if asked is not None and self._asked is not asked:
                raise _SupersededError
            await asyncio.sleep(LOOK_S)

    async def _restored(self) -> bool:
        """Bring the noted number back after a restart of the stack; False where that is not known yet."""
        try:
            state = self._launcher.state()
            noted = self._memory.noted()
            if noted is None:
                return True
            wanted = min(noted, state.most) if self._memory.policy() is not None else state.wanted
            if wanted != state.wanted:
                log.info("%d executors were ready before, %d were started: %d again", noted, state.wanted, wanted)
                self._launcher.set(wanted)
                await self._until(lambda now: True, wanted, self._stop_s, None)
        except LauncherAwayError:
            return False
        if wanted != noted:
            reason = f"{wanted} executors are what the settings allow or ask for"
            try:
                await self._memory.note(Replicas(self._pool.name, wanted, ""), reason, ())
            except RefusedError as error:
                log.warning("that %d executors run was not noted: %s", wanted, error)
        return True

    def _said(
        self, action: ScaleAction, replicas: int, outcome: str, reason: str = "", stopped: tuple[str, ...] = ()
    ) -> ScaleConfirmation:
        return ScaleConfirmation(
            action.action_id, self._pool.name, replicas, outcome, self._clock_us(), reason, stopped
        )
