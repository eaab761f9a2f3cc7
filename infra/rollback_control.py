"""A person's roll-back: to the configuration of a model that proved itself last and does not serve now."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, require_model
from infra.serving_control import ServingControl
from schemas.known_good import VERSION, Activation, Configuration, GoodVersion
from schemas.memory import MemoryCommand
from streams.canonical import to_json
from streams.memory_view import MemoryView, active_version, cache_policy, known_good, plan, rejection, serving_policy

KIND: Final = "ActivateVersion"


def configuration_of(view: MemoryView, model: str) -> Configuration:
    """How a model is served now."""
    return Configuration(serving_policy(view, model), cache_policy(view, model))


def target_of(view: MemoryView, model: str) -> GoodVersion:
    """What to go back to: how the version that serves proved itself, where it is served otherwise; else another one.

    Raises ChangeRefusedError where there is nothing.
    """
    require_model(view, model)
    good, active = known_good(view, model), active_version(view, model)
    proved = None if good is None or active is None else good.of(active)
    if proved is not None and _differing(view, model, proved):
        return proved
    for each in () if good is None else good.versions:
        if each.version != active:
            return each
    sentence = f"No other version of {model} than {active} proved itself in service, nor another way to serve it"
    remedy = f"`isos models show {model}` lists the versions, `isos models activate` goes to any of them."
    raise ChangeRefusedError("unknown_version", sentence, remedy)


def restored_by(view: MemoryView, model: str, target: GoodVersion) -> tuple[str, ...]:
    """What going back to ``target`` changes: ``version``, fields of the serving policy, ``cache``."""
    moved = (VERSION,) if active_version(view, model) != target.version else ()
    return (*moved, *_differing(view, model, target))


def rollback_command(target: GoodVersion, model: str, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal; people approve exactly what is put back. The same one later, for other policies, is another one."""
    what = ", ".join(restored_by(view, model, target))
    reason = f"{model} is to be served by {target.version} as when it proved itself: {what}"
    body = to_json(Activation(model, target.version, target.configuration))
    command = command_of(KIND, f"active/{model}", body, reason, view, now_us)
    versions = [entry.version for key in ("serving", "cache") if (entry := view.entries.get(f"{key}/{model}"))]
    identity = "-".join((command.command_id, *map(str, versions)))
    again = rejection(view, identity) is not None  # or the old refusal would answer it
    return replace(command, command_id=f"{identity}-{view.sequence}" if again else identity)


class RollbackControl(ServingControl):
    """An open connection to memory, by which a model goes back. Use ``async with``."""

    async def go_back(self, model: str, *, wait_for_plan: bool = True) -> tuple[str, ...]:
        """Go back, wait until a plan says so, and give what changed. Raises as ``activate``."""
        target = target_of(self.view, model)
        changed = restored_by(self.view, model, target)
        if target.configuration is None:  # noted by an earlier release: only the version is known
            await self.activate(model, target.version, wait_for_plan=wait_for_plan)
            return changed
        command = rollback_command(target, model, self.view, time.time_ns() // 1000)
        remedy = f"`isos models show {model}` and `isos serving show {model}` show what stands."
        await self.propose(
            command, lambda view: not restored_by(view, model, target), remedy, wait_for_review=wait_for_plan
        )
        if wait_for_plan:
            what = f"A plan of {model} with {target.version} as it was served"
            await self.wait_for(lambda view: _is_planned(view, model, target.version), what)
        return changed


def _differing(view: MemoryView, model: str, target: GoodVersion) -> tuple[str, ...]:
    good = target.configuration
    return () if good is None else good.differences(configuration_of(view, model))


def _is_planned(view: MemoryView, model: str, version: str) -> bool:
    """Whether the plan has the version, and tries and hedging as the serving policy wants them."""
    effective, policy = plan(view, model), serving_policy(view, model)
    if effective is None or version not in [share.version for share in effective.versions]:
        return False
    return policy is None or (policy.max_attempts, policy.hedge) == (effective.max_attempts, effective.hedge)
