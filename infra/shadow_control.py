"""Which version shadows a model, changed by commands to the Orchestrator."""

from __future__ import annotations

import time

from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, MemoryControl, require_model
from schemas.memory import MemoryCommand
from schemas.shadow import Shadow, ShadowPolicy
from streams.canonical import to_json
from streams.memory_view import MemoryView, active_version, model_version, plan
from streams.shadow_view import KEY, shadow_policy


def shadow_command(wanted: ShadowPolicy, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of a shadow; 0 percent: of none any more."""
    reason = f"{wanted.percent} % of {wanted.model}'s rows are also run by {wanted.version}, which answers none"
    if not wanted.percent:
        reason = f"{wanted.model} is shadowed no more"
    return command_of("SetShadow", KEY + wanted.model, to_json(wanted), reason, view, now_us)


class ShadowControl(MemoryControl):
    """An open connection to memory, by which shadows are set. Use ``async with``."""

    async def set_shadow(self, model: str, version: str, percent: int, *, wait_for_plan: bool = True) -> None:
        """Have a version shadow a model, or with 0 percent none, and wait until the plan says so; twice is a success.

        Raises as ``propose``.
        """
        require_model(self.view, model)
        if percent and model_version(self.view, model, version) is None:
            sentence = f"{model} has no version {version}"
            raise ChangeRefusedError("unknown_version", sentence, f"`isos models show {model}` lists them.")
        wanted = ShadowPolicy(model, version, percent) if percent else None
        if shadow_policy(self.view, model) != wanted:
            asked = ShadowPolicy(model, version, percent)
            command = shadow_command(asked, self.view, time.time_ns() // 1000)
            remedy = f"`isos models show {model}` lists the versions and says which one serves."
            await self.propose(command, lambda view: shadow_policy(view, model) == wanted, remedy)
        if wait_for_plan and active_version(self.view, model) != version:
            planned = Shadow(version, percent) if percent else None
            what = f"A plan of {model} {f'with {version} as its shadow' if percent else 'without a shadow'}"
            await self.wait_for(lambda view: _planned(view, model) == planned, what)


def _planned(view: MemoryView, model: str) -> Shadow | None:
    effective = plan(view, model)
    return None if effective is None else effective.shadow
