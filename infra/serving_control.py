"""How a model is served: its serving policy and active version, changed by commands to the Orchestrator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, MemoryControl, require_model
from schemas.memory import MemoryCommand
from schemas.serving import ServingPolicy, Slo
from streams.canonical import to_json
from streams.memory_view import (
    ActiveVersion,
    MemoryView,
    active_version,
    model_version,
    plan,
    serving_policy,
)

DEFAULT_LATE_PPM: Final = 10_000

Change = Callable[[ServingPolicy], ServingPolicy]
"""From the policy that stands (the defaults where none does) to the one that is wanted."""


def standing(view: MemoryView, model: str) -> ServingPolicy:
    """The policy in memory, or the defaults. Raises ChangeRefusedError for a model that is not registered."""
    require_model(view, model)
    return serving_policy(view, model) or ServingPolicy(model)


def changed_slo(
    slo: Slo | None, latency_ms: int | None = None, share: float | None = None, error_share: float | None = None
) -> Slo:
    """The SLO with what is named in place of what stands; 99 % are to be in time where nothing says how many.

    Raises ValueError with a sentence for one that cannot be judged.
    """
    now = slo or Slo()
    latency_ms = now.latency_ms if latency_ms is None else latency_ms
    if share is not None and not latency_ms:
        raise ValueError("a share of answers in time needs a latency target")
    late_ppm = round((1 - share) * 1e6) if share is not None else now.late_ppm or DEFAULT_LATE_PPM
    error_ppm = now.error_ppm if error_share is None else math.ceil(round(error_share * 1e6, 3))
    wanted = Slo(latency_ms, late_ppm if latency_ms else 0, error_ppm)
    if wanted.problem:
        raise ValueError(wanted.problem)
    return wanted


def policy_command(wanted: ServingPolicy, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of a policy."""
    tries = f"{wanted.max_attempts} {'try' if wanted.max_attempts == 1 else 'tries'}"
    fallbacks = f"falls back to {', '.join(wanted.fallbacks)}" if wanted.fallbacks else "no fallback"
    switches = f"{'' if wanted.hedge else 'not '}hedged, {'' if wanted.breaker else 'no '}breakers"
    promise = "" if wanted.slo is None else f", SLO {wanted.slo}"
    promise += "" if wanted.auto_rollback else ", rolled back only by people"
    reason = f"{wanted.model}: {fallbacks}, {tries}, {switches}{promise}"
    return command_of("SetServingPolicy", f"serving/{wanted.model}", to_json(wanted), reason, view, now_us)


def activation_command(model: str, version: str, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of an active version."""
    reason = f"{model} is to be served by {version} instead of {active_version(view, model)}"
    return command_of(
        "ActivateVersion", f"active/{model}", to_json(ActiveVersion(model, version)), reason, view, now_us
    )


class ServingControl(MemoryControl):
    """An open connection to memory, by which it is changed how models are served. Use ``async with``."""

    async def set_policy(self, model: str, change: Change) -> ServingPolicy:
        """Have a model's policy changed and wait until it stands in memory; what stands already is a success.

        Raises ChangeRefusedError, and WatchTimeoutError when nobody answers in time.
        """
        wanted = change(standing(self.view, model))
        if wanted != serving_policy(self.view, model):
            command = policy_command(wanted, self.view, time.time_ns() // 1000)
            remedy = f"`isos serving show {model}` shows what stands, `isos models show {model}` the versions."
            await self.propose(command, lambda view: serving_policy(view, model) == wanted, remedy)
        return wanted

    async def activate(self, model: str, version: str, *, wait_for_plan: bool = True) -> None:
        """Have another version serve a model, and wait until the plan says so. Raises as ``propose``.

        Without waiting, ReviewWaitsError tells at once that a person is to approve it.
        """
        standing(self.view, model)
        if model_version(self.view, model, version) is None:
            sentence = f"{model} has no version {version}"
            raise ChangeRefusedError("unknown_version", sentence, f"`isos models show {model}` lists them.")
        if active_version(self.view, model) != version:
            command = activation_command(model, version, self.view, time.time_ns() // 1000)
            remedy = f"`isos models show {model}` shows what stands."
            await self.propose(
                command, lambda view: active_version(view, model) == version, remedy, wait_for_review=wait_for_plan
            )
        if wait_for_plan:
            what = f"A plan of {model} with {version}"
            await self.wait_for(lambda view: _is_planned(view, model, version), what)


def _is_planned(view: MemoryView, model: str, version: str) -> bool:
    effective = plan(view, model)
    return effective is not None and effective.versions[0].version == version  # the active one is first
