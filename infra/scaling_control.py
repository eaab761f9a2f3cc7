"""Within what a pool of executors is scaled: its policy, changed by commands to the Orchestrator."""

from __future__ import annotations

import time
from collections.abc import Callable

from infra.memory_command import command_of
from infra.memory_control import MemoryControl
from schemas.memory import MemoryCommand
from schemas.scaling import ScalingPolicy
from streams.canonical import to_json
from streams.lane_class import POOL
from streams.memory_view import MemoryView, scaling_policy

Change = Callable[[ScalingPolicy], ScalingPolicy]
"""From the policy that stands (the defaults where none does) to the one that is wanted."""


def standing(view: MemoryView, pool: str = POOL) -> ScalingPolicy:
    """A pool's policy in memory, or the defaults."""
    return scaling_policy(view, pool) or ScalingPolicy(pool)


def policy_command(wanted: ScalingPolicy, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of a policy."""
    reason = (
        f"{wanted.pool}: {wanted.min_replicas} to {wanted.ceiling} replicas, each busy for "
        f"{wanted.target_utilization_percent} %, up after {wanted.upscale_delay_s} s, down after "
        f"{wanted.downscale_delay_s} s"
    )
    return command_of("SetScalingPolicy", f"scaling/{wanted.pool}", to_json(wanted), reason, view, now_us)


class ScalingControl(MemoryControl):
    """An open connection to memory, by which it is changed how executors are scaled. Use ``async with``."""

    async def set_policy(self, change: Change, pool: str = POOL) -> ScalingPolicy:
        """Have a pool's policy changed and wait until it stands in memory; what stands already is a success.

        Raises ChangeRefusedError, and WatchTimeoutError when nobody answers in time.
        """
        wanted = change(standing(self.view, pool))
        if wanted != scaling_policy(self.view, pool):
            command = policy_command(wanted, self.view, time.time_ns() // 1000)
            remedy = "`isos scaling show` shows what stands."
            await self.propose(command, lambda view: scaling_policy(view, pool) == wanted, remedy)
        return wanted
