"""The processes of the control plane as the simulation runs them, and which kinds of processes a world has."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from streams.agent import AgentSpec
from streams.control.control_loop import ControlLoop
from streams.control.event_store import EventStore
from streams.partition_log import KafkaLog
from tests.sim.processes import Process
from tests.sim.profile import Profile
from tests.sim.roles import EdgeProcess, ExecutorProcess, RouterProcess, ValidatorProcess
from tests.sim.world import World


class ControlProcess(Process):
    """``infra.control_plane``: the control agents that are in charge of by a process, one loop each."""

    def mine(self) -> tuple[AgentSpec, ...]:
        """The agents of this process."""
        return tuple(spec for spec in self.world.agents if spec.name != "orchestrator")

    async def serve(self) -> None:
        connection: Any = self
        specs = self.mine()
        self.share = 2 * len(specs) if self.world.profile.control else len(specs)
        loops = []
        for spec in specs:
            partitions, codec = KafkaLog(connection), self.world.codec
            store = EventStore(partitions, codec) if "memory.events" in spec.emits else None
            loops.append(
                ControlLoop(
                    noting(spec, self.world), connection, codec, partitions, data_dir="", on_defect=self.fail,
                    memory=store, clock_us=lambda: self.world.now_us + self.skew_us,
                )
            )  # fmt: skip
        for loop in loops:
            await loop.start()
        await asyncio.Event().wait()


def noting(spec: AgentSpec, world: World) -> AgentSpec:
    """The agent, whose world hears of each record that it would not even journal."""
    if spec.ignores is None:
        return spec
    ignores = spec.ignores

    def noted(state: Any, record: Any) -> bool:
        ignored = ignores(state, record)
        if ignored:
            world.ignored.add((spec.name, id(record)))  # the world's codec keeps every record that it decoded
        return ignored

    return replace(spec, ignores=noted)


class OrchestratorProcess(ControlProcess):
    """The Orchestrator, the only writer of memory."""

    role = "orchestrator"

    def mine(self) -> tuple[AgentSpec, ...]:
        return tuple(spec for spec in self.world.agents if spec.name == "orchestrator")


class PlannerProcess(ControlProcess):
    """The Planner alone, where nobody else runs."""

    role = "planner"


class AgentsProcess(ControlProcess):
    """All agents but the Orchestrator."""

    role = "control"


def kinds(profile: Profile) -> tuple[type[Process], ...]:
    """The kinds of processes of a world."""
    data: tuple[type[Process], ...] = (EdgeProcess, RouterProcess, ExecutorProcess, ValidatorProcess)
    control = AgentsProcess if profile.control else PlannerProcess
    return (*(() if profile.alone else data), OrchestratorProcess, control)
