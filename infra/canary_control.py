"""Canaries: a version's share of a model's rows, changed by commands to the Orchestrator; and how rows are split."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, MemoryControl, require_model
from schemas.canary import Canary
from schemas.memory import MemoryCommand
from streams.canonical import to_json
from streams.memory_view import MemoryView, active_version, canary, model_version, plan


@dataclass(frozen=True, slots=True)
class Split:
    """How a model's rows are split. ``shares``: percent by version, by its plan (empty: it has none).

    ``canary``: what memory wants of one, None for none; it waits while the plan gives it another share.
    """

    model: str
    active: str
    canary: Canary | None
    shares: dict[str, int]

    @property
    def waits(self) -> bool:
        """Whether the plan does not give the canary yet what memory says: executors are to load it first."""
        return self.canary is not None and self.shares.get(self.canary.version, 0) != self.canary.weight_percent

    def document(self, memory_sequence: int) -> dict[str, Any]:
        """The split as JSON."""
        found = self.canary
        return {
            "model": self.model,
            "active_version": self.active,
            "canary": None if found is None else {
                "version": found.version, "weight_percent": found.weight_percent,
                "state": "waits" if self.waits else "serves",
            },
            "serves_percent": self.shares,
            "memory_sequence": memory_sequence,
        }  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """A row per version that serves, or is to."""
        wanted = {} if self.canary is None else {self.canary.version: self.canary.weight_percent}
        names = dict.fromkeys((self.active, *wanted, *self.shares))
        return [
            {
                "model": self.model,
                "version": name,
                "role": "active" if name == self.active else "canary" if name in wanted else "taken back",
                "wanted_percent": wanted.get(name, 100 - sum(wanted.values()) if name == self.active else 0),
                "serves_percent": self.shares.get(name, 0),
            }
            for name in names
        ]


def split_of(view: MemoryView, model: str) -> Split:
    """How a model's rows are split now. Raises ChangeRefusedError for a model that is not registered."""
    require_model(view, model)
    effective = plan(view, model)
    shares = {} if effective is None else {each.version: each.weight_percent for each in effective.versions}
    return Split(model, active_version(view, model) or "", canary(view, model), shares)


def canary_command(wanted: Canary, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of a canary's share."""
    active = active_version(view, wanted.model)
    reason = f"{wanted.model} {wanted.version} is to serve {wanted.weight_percent} percent of the rows beside {active}"
    if not wanted.weight_percent:
        reason = f"{wanted.model} {wanted.version} is to serve no rows beside {active} any more"
    return command_of("SetCanary", f"canary/{wanted.model}", to_json(wanted), reason, view, now_us)


class CanaryControl(MemoryControl):
    """An open connection to memory, by which canaries are started, changed and taken back. Use ``async with``."""

    async def set_share(self, wanted: Canary, *, wait_for_plan: bool = True) -> Split:
        """Have a version serve a share (0: none) beside the active one, and wait until the plan says so.

        What stands already is a success. Raises as ``propose``; without waiting, ReviewWaitsError tells at once that a
        person is to approve it.
        """
        model, version = wanted.model, wanted.version
        require_model(self.view, model)
        remedy = f"`isos models canary {model}` shows what stands."
        if model_version(self.view, model, version) is None:
            sentence = f"{model} has no version {version}"
            raise ChangeRefusedError("unknown_version", sentence, f"`isos models show {model}` lists them.")
        if not _stands(self.view, wanted):
            command = canary_command(wanted, self.view, time.time_ns() // 1000)
            await self.propose(command, lambda view: _stands(view, wanted), remedy, wait_for_review=wait_for_plan)
        if wait_for_plan:
            what = f"A plan that gives {model} {version} {wanted.weight_percent} %, once executors have loaded it,"
            await self.wait_for(lambda view: _is_planned(view, wanted), what)
        return split_of(self.view, model)


def _stands(view: MemoryView, wanted: Canary) -> bool:
    found = canary(view, wanted.model)
    if not wanted.weight_percent:
        return found is None
    return found == wanted


def _is_planned(view: MemoryView, wanted: Canary) -> bool:
    if not _stands(view, wanted):
        return True  # it was changed or taken back meanwhile; what is printed says so
    effective = plan(view, wanted.model)
    shares = {} if effective is None else {share.version: share.weight_percent for share in effective.versions}
    if not wanted.weight_percent and active_version(view, wanted.model) == wanted.version:
        return effective is not None
    return effective is not None and shares.get(wanted.version, 0) == wanted.weight_percent
