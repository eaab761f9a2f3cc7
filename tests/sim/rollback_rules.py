"""What must hold of roll-backs without a person, judged by memory's events alone, in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from schemas.memory import MemoryEvent
from streams.canonical import from_json
from streams.memory_view import ActiveVersion

GOOD: Final = "only a version that proved itself is rolled back to"
ONCE: Final = "a roll-back is made once, and nobody goes back and forth"
VERIFIED: Final = "a roll-back is verified by what passed"
COOLDOWN_US: Final = 600_000_000
CHECKS: Final = {"serving", "latency", "golden_set", "integrity"}
BY_ITSELF: Final = "orchestrator"


def document(body: str | None) -> Any:
    """The plain JSON of a body."""
    return None if body is None else json.loads(body)


class RollbackRules:
    """``take`` an event: the rules that it breaks. ``good``: versions by model, as memory says.

    ``left``: versions that were rolled back from and have not proved themselves since.
    """

    def __init__(self, cooldown_us: int = COOLDOWN_US) -> None:
        self.cooldown_us = cooldown_us
        self.active: dict[str, str] = {}
        self.good: dict[str, set[str]] = {}
        self.left: dict[str, set[str]] = {}
        self.last_us: dict[str, int] = {}
        self.manual: dict[str, bool] = {}
        self.triggers: set[str] = set()
        self.num_rollbacks = 0

    def take(self, event: MemoryEvent) -> Iterator[tuple[str, str]]:
        """Judge an event that follows the ones before."""
        space, _, model = event.key.partition("/")
        if space == "serving":
            self.manual[model] = document(event.body).get("auto_rollback") is False
        elif space == "good":
            versions = {each["version"] for each in (document(event.body) or {"versions": ()})["versions"]}
            added = versions - self.good.get(model, set())
            if event.kind == "VersionMarkedGood":
                self.left[model] = self.left.get(model, set()) - {document(event.body)["versions"][0]["version"]}
                if added - {self.active.get(model)}:
                    yield GOOD, f"{event.key} marks {sorted(added)}, and {self.active.get(model)} is active"
            self.good[model] = versions
        elif space == "active" and event.body is not None:
            version = from_json(ActiveVersion, event.body).version
            if event.kind == "VersionRolledBack" and event.agent == BY_ITSELF:
                yield from self.rolled_back(event, model, version)
            if event.kind == "VersionRolledBack":
                self.left.setdefault(model, set()).add(self.active[model])
            self.active[model] = version
        elif event.kind == "RollbackVerified":
            checks = {each["name"]: each["passed"] for each in document(event.body)["checks"]}
            if not all(checks.values()) or not ("in_service" in checks or set(checks) >= CHECKS):
                yield VERIFIED, f"{event.key} counts as verified by {checks}"

    def rolled_back(self, event: MemoryEvent, model: str, version: str) -> Iterator[tuple[str, str]]:
        self.num_rollbacks += 1
        before, good = self.active[model], self.good.get(model, set())
        what = f"{model} went from {before} to {version} at {event.time_us}"
        if version not in good or version == before:
            yield GOOD, f"{what}, and good are {sorted(good)}"
        if before in good:
            yield GOOD, f"{what}, and {before} had proved itself"
        if version in self.left.get(model, set()):
            yield ONCE, f"{what}, which was left before and proved nothing since"
        if event.time_us - self.last_us.get(model, -self.cooldown_us) < self.cooldown_us:
            yield ONCE, f"{what}, {event.time_us - self.last_us[model]} us after the last time"
        if self.manual.get(model):
            yield ONCE, f"{what}, which its policy leaves to people"
        if event.command_id in self.triggers:
            yield ONCE, f"{what} by {event.command_id}, which called for one before"
        self.triggers.add(event.command_id)
        self.last_us[model] = event.time_us
