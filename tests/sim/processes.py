"""What every simulated process is: real code on a loop of its own, which runs a few callbacks in a step."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from streams.errors import RetriableError
from streams.memory_view import MemoryView
from streams.takeover import FrameLostError
from streams.watch import MemoryWatch
from tests.sim.loop import SimLoop
from tests.sim.world import Link, World

if TYPE_CHECKING:
    from tests.sim.broker_clients import Member

DEFECTS = re.compile(r"(Assertion|Attribute|Index|Key|Name|Type|Value|Invariant)Error")
"""Named by an error that is taken for a passing one."""

Step = tuple[str, Callable[[], str]]


class Process:
    """One process from its start to its death. ``dying`` is set by what would end the real one with an error.

    It stands in for the connection too, so that the clients that its code makes know whose they are.
    """

    role = ""
    loopback = True
    share = 1
    """How many times the others' callbacks it runs in a step: one per agent that it is."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.dying = ""
        self.defect: BaseException | None = None
        self.skew_us = world.rng.randint(-world.profile.max_skew_us, world.profile.max_skew_us)
        self.members: list[Member] = []
        self.names: list[str] = []
        self.loop = SimLoop(world.elapsed_s)
        self.memory: MemoryWatch | None = None
        self.runs: dict[Any, Any] = {}
        self.main = self.loop.create_task(self.serve(), name=name)

    async def serve(self) -> None:
        """What the process is there for; returns never."""
        raise NotImplementedError

    @property
    def process(self) -> Process:
        """Itself: owners of links are asked for their process."""
        return self

    @property
    def bootstrap(self) -> str:
        """An address that nobody calls."""
        return "simulated"

    @property
    def view(self) -> MemoryView:
        """Memory as this process sees it."""
        return MemoryView() if self.memory is None else self.memory.view

    async def follow_memory(self, on_change: Any = None) -> MemoryWatch:
        """Fold memory to its end and follow it."""
        memory = MemoryWatch(self, self.world.codec, on_change=on_change)  # type: ignore[arg-type]
        await memory.start(60.0)
        self.memory = memory
        return memory

    def fail(self, error: BaseException) -> None:
        """A defect of ours, or a lost frame, which only another process can send again."""
        if isinstance(error, FrameLostError):
            self.dying = self.dying or f"{type(error).__name__}: {error}"
        else:
            self.defect = self.defect or error

    # What the scheduler may choose from.

    def steps(self) -> list[Step]:
        """Every step that is possible now."""
        if self.dying:
            return []
        found: list[Step] = []
        if self.loop.next_s() <= self.world.elapsed_s():
            found.append(("runs", self.run))
        for member in self.members:
            if member.is_behind and (member.generation < 0 or self.world.rng.random() < self.world.profile.hear):
                found.append(("hears", member.hear))
        links = [link for link in self.world.links if link.landed and link.owner.process is self]
        if links:
            found.append(("is told of", lambda: self.take_outcome(self.world.rng.choice(links))))
        return found

    def run(self) -> str:
        """Some callbacks."""
        done = self.loop.run_some(self.share * self.world.rng.choice(self.world.profile.bursts))
        self.look()
        return f"{done} callbacks"

    def take_outcome(self, link: Link) -> str:
        """Take the oldest outcome of a link."""
        sending, outcome = link.landed.popleft()
        sending.done(outcome)
        return f"{link.place[0]}-{link.place[1]} {outcome.error or outcome.first}"

    def look(self) -> None:
        """Whether it has failed."""
        if self.loop.errors:
            self.fail(self.loop.errors[0])
        if self.main.done() and not self.dying:
            error = asyncio.CancelledError() if self.main.cancelled() else self.main.exception()
            if isinstance(error, RetriableError | KafkaError) and not DEFECTS.search(repr(error)):
                self.dying = f"{type(error).__name__}: {error}"
            else:
                self.fail(error or AssertionError("it came to its end"))

    @property
    def idle(self) -> bool:
        """Whether nothing is under way inside that the outside could not see."""
        return not self.dying and not any(member.is_behind for member in self.members)

    def die(self) -> None:
        """Lose everything volatile; what is under way lands later or never."""
        self.alive = False
        self.world.orphan(self)
        self.loop.destroy()
