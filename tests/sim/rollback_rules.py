"""What must hold of roll-backs without a person, judged by memory's events alone, in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from schemas.cache import CachePolicy
from schemas.known_good import Configuration, KnownGood, Rollback
from schemas.memory import MemoryEvent
from schemas.serving import ServingPolicy
from streams.canonical import from_json
from streams.memory_view import ActiveVersion

GOOD: Final = "only a version that proved itself is rolled back to"
ONCE: Final = "a roll-back is made once, and nobody goes back and forth"
VERIFIED: Final = "a roll-back is verified by what passed"
PUT_BACK: Final = "a roll-back puts back only what was in force when it proved itself"
COOLDOWN_US: Final = 600_000_000
CHECKS: Final = {"serving", "latency", "golden_set", "integrity"}
BY_ITSELF: Final = "orchestrator"


def document(body: str | None) -> Any:
    """The plain JSON of a body."""
    return None if body is None else json.loads(body)


class RollbackRules:
    """``take`` an event: the rules that it breaks. ``good``: versions by model, as memory says.

    ``left``: versions that were rolled back from and have not proved themselves since. ``served``: how models are
    served now, ``changed_us``: since when, ``history``: from when on each way. ``proved``: how versions were served
    when they proved themselves.
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
        self.num_put_back = 0
        self.served: dict[str, Configuration] = {}
        self.changed_us: dict[str, int] = {}
        self.history: dict[str, list[tuple[int, Configuration]]] = {}
        self.proved: dict[tuple[str, str], Configuration | None] = {}

    def take(self, event: MemoryEvent) -> Iterator[tuple[str, str]]:
        """Judge an event that follows the ones before."""
        space, _, model = event.key.partition("/")
        if space in ("serving", "cache"):
            yield from self.served_otherwise(event, space, model)
        elif space == "good":
            self.proved |= {(model, version): None for version in self.good.get(model, ())}
            for each in () if event.body is None else from_json(KnownGood, event.body).versions:
                self.proved[model, each.version] = each.configuration
            versions = {each["version"] for each in (document(event.body) or {"versions": ()})["versions"]}
            added = versions - self.good.get(model, set())
            if event.kind == "VersionMarkedGood":
                self.left[model] = self.left.get(model, set()) - {document(event.body)["versions"][0]["version"]}
                if added - {self.active.get(model)}:
                    yield GOOD, f"{event.key} marks {sorted(added)}, and {self.active.get(model)} is active"
                yield from self.marked(event, model)
            self.good[model] = versions
        elif space == "active" and event.body is not None:
            version = from_json(ActiveVersion, event.body).version
            if event.kind == "VersionRolledBack" and event.agent == BY_ITSELF:
                yield from self.rolled_back(event, model, version)
            if event.kind == "VersionRolledBack":
                self.left.setdefault(model, set()).add(self.active[model])
            self.active[model] = version
        elif event.kind == "RollbackStarted":
            yield from self.put_back(event, from_json(Rollback, event.body or ""))
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
        yield from self.once(event, model, what)

    def once(self, event: MemoryEvent, model: str, what: str) -> Iterator[tuple[str, str]]:
        """A roll-back of a model without a person."""
        if event.time_us - self.last_us.get(model, -self.cooldown_us) < self.cooldown_us:
            yield ONCE, f"{what}, {event.time_us - self.last_us[model]} us after the last time"
        if self.manual.get(model):
            yield ONCE, f"{what}, which its policy leaves to people"
        if event.command_id in self.triggers:
            yield ONCE, f"{what} by {event.command_id}, which called for one before"
        self.triggers.add(event.command_id)
        self.last_us[model] = event.time_us

    def served_otherwise(self, event: MemoryEvent, space: str, model: str) -> Iterator[tuple[str, str]]:
        """A policy is another one; one that is put back leaves alone what is promised and who may act."""
        before = self.served.get(model, Configuration())
        if space == "serving":
            now, known = from_json(ServingPolicy, event.body or ""), before.serving or ServingPolicy(model)
            if event.agent == BY_ITSELF and (now.slo, now.auto_rollback) != (known.slo, known.auto_rollback):
                yield PUT_BACK, f"{event.key} has another promise than before: {now}"
            self.manual[model] = not now.auto_rollback
            after = replace(before, serving=now)
        else:
            cache = from_json(CachePolicy, event.body or "")
            if before.cache is not None and cache.epoch < before.cache.epoch:
                yield PUT_BACK, f"{event.key} comes back to epoch {cache.epoch} after {before.cache.epoch}"
            after = replace(before, cache=cache)
        if after.differences(before):
            self.changed_us[model] = event.time_us
        self.served[model] = after
        self.history.setdefault(model, []).append((event.time_us, after))

    def marked(self, event: MemoryEvent, model: str) -> Iterator[tuple[str, str]]:
        """What is noted as good is in force, and was when it is said to have begun to prove itself."""
        newest = from_json(KnownGood, event.body or "").versions[0]
        if newest.configuration is None:
            return
        now = self.served.get(model, Configuration())
        then = Configuration()
        for time_us, served in self.history.get(model, ()):
            then = served if time_us <= newest.since_us else then
        differing = (*newest.configuration.differences(now), *newest.configuration.differences(then))
        if differing:
            yield PUT_BACK, f"{event.key} notes {newest}, which was not in force: {differing}"

    def put_back(self, event: MemoryEvent, rollback: Rollback) -> Iterator[tuple[str, str]]:
        """All of a roll-back stands: the model is served as when that version proved itself."""
        model, version = rollback.model, rollback.to_version
        what = f"{model} {version} is put back at {event.time_us} ({', '.join(rollback.restored)})"
        if rollback.from_version == version:
            self.num_rollbacks += 1
            yield from self.once(event, model, what)
        if version not in self.good.get(model, set()) or version != self.active.get(model):
            yield PUT_BACK, f"{what}, and good are {sorted(self.good.get(model, set()))}"
        proved, now = self.proved.get((model, version)), self.served.get(model, Configuration())
        policies = [name for name in rollback.restored if name != "version"]
        self.num_put_back += bool(policies)
        if proved is None and policies:
            yield PUT_BACK, f"{what}, and nobody knows how it was served"
        if proved is not None and proved.differences(now):
            yield PUT_BACK, f"{what}, which was good as {proved}, and serves as {now}"
