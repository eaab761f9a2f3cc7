"""Whether the answers of models are cached: read from memory, changed by commands to the Orchestrator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaProducer

from infra.memory_command import command_of
from schemas.cache import CachePolicy
from schemas.memory import MemoryCommand
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import IsosError
from streams.memory_view import MemoryView, cache_policy, models, rejection
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch

COMMANDS_TOPIC: Final = "memory.commands"
KIND: Final = "SetCachePolicy"
SEND_TIMEOUT_S: Final = 10.0
DEFAULT_TTL_S: Final = 3_600

Change = Callable[[CachePolicy], CachePolicy]
"""From the policy that stands (a disabled one of epoch 0 where none does) to the one that is wanted."""


class CacheRefusedError(IsosError):
    """The Orchestrator refused the change, or there is no such model; ``remedy`` is what to do."""

    def __init__(self, code: str, sentence: str, remedy: str) -> None:
        super().__init__(code, sentence, remedy)
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.exit_code = 3 if code == "unknown_model" else 4

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A registered model, the policy of its cache, and which of its versions draw lots and so are never cached."""

    model: str
    policy: CachePolicy
    not_deterministic: tuple[str, ...]


def cached_model_list(view: MemoryView) -> tuple[CachedModel, ...]:
    """Every registered model, by name."""
    found = []
    for model, versions in sorted(models(view).items()):
        lots = tuple(facts.version for facts in versions if not facts.deterministic)
        found.append(CachedModel(model, standing(view, model), lots))
    return tuple(found)


def standing(view: MemoryView, model: str) -> CachePolicy:
    """The policy in memory, or a disabled one of epoch 0."""
    return cache_policy(view, model) or CachePolicy(model, False, 0, DEFAULT_TTL_S)


def command_for(wanted: CachePolicy, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal, for the version that stands in ``view``; see ``command_of``."""
    what = "are cached" if wanted.enabled else "are not cached"
    reason = f"answers of {wanted.model} {what}, {wanted.ttl_s} s, epoch {wanted.epoch}"
    return command_of(KIND, f"cache/{wanted.model}", to_json(wanted), reason, view, now_us)


class CacheControl:
    """An open connection to memory. Use ``async with``."""

    def __init__(self, connection: Connection, timeout_s: float = 30.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> CacheControl:
        """Read memory to its end. Raises RetriableError when the broker is away."""
        self._codec = Codec(await read_schema_ids(self._connection))
        self._memory = MemoryWatch(self._connection, self._codec)
        await self._memory.start(self._timeout_s)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the clients."""
        await self._memory.stop()
        if self._producer is not None:
            await stop_quietly(self._producer)

    @property
    def view(self) -> MemoryView:
        """Memory as it stands now."""
        return self._memory.view

    async def change(self, model: str, change: Change) -> CachePolicy:
        """Have a model's policy changed and wait until it stands in memory; what stands already is a success.

        Raises CacheRefusedError, and WatchTimeoutError when nobody answers in time.
        """
        if model not in models(self.view):
            raise CacheRefusedError(
                "unknown_model", f"No model {model} is registered", "`isos models list` shows them."
            )
        wanted = change(standing(self.view, model))
        if wanted == cache_policy(self.view, model):
            return wanted
        command = command_for(wanted, self.view, time.time_ns() // 1000)
        await self._send(command)
        view = await self._memory.wait_for(
            lambda view: _is_settled(view, command), self._timeout_s, f"The Orchestrator's answer about {command.key}"
        )
        refused = rejection(view, command.command_id)
        if refused is not None and cache_policy(view, model) != wanted:
            raise CacheRefusedError(
                refused.code,
                refused.message.rstrip("."),
                "`isos cache list` shows what stands; the command may be repeated.",
            )
        return wanted

    async def _send(self, command: MemoryCommand) -> None:
        if self._producer is None:
            self._producer = producer(self._connection, enable_idempotence=True)
            await start(self._producer, "connecting to write")
        value = self._codec.encode(COMMANDS_TOPIC, command)
        sent = self._producer.send_and_wait(full_name(COMMANDS_TOPIC), value, key=command.key.encode())
        await bounded(sent, SEND_TIMEOUT_S, "sending the command")


def _is_settled(view: MemoryView, command: MemoryCommand) -> bool:
    """Whether the change stands, or somebody else's does, or it was refused."""
    entry = view.entries.get(command.key)
    version = 0 if entry is None else entry.version
    return version > command.expected_version or rejection(view, command.command_id) is not None
