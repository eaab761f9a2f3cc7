"""How a model is served: its serving policy and active version, changed by commands to the Orchestrator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaProducer

from infra.memory_command import command_of
from schemas.memory import MemoryCommand
from schemas.serving import ServingPolicy, Slo
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import IsosError
from streams.memory_view import (
    ActiveVersion,
    MemoryView,
    active_version,
    model_version,
    models,
    plan,
    rejection,
    serving_policy,
)
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch

DEFAULT_LATE_PPM: Final = 10_000
COMMANDS_TOPIC: Final = "memory.commands"
SEND_TIMEOUT_S: Final = 10.0
NOT_FOUND: Final = ("unknown_model", "unknown_version")

Change = Callable[[ServingPolicy], ServingPolicy]
"""From the policy that stands (the defaults where none does) to the one that is wanted."""


class ServingRefusedError(IsosError):
    """The Orchestrator refused the change, or there is no such model or version; ``remedy`` is what to do."""

    def __init__(self, code: str, sentence: str, remedy: str) -> None:
        super().__init__(code, sentence, remedy)
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.exit_code = 3 if code in NOT_FOUND else 4

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}. {self.remedy}"


def standing(view: MemoryView, model: str) -> ServingPolicy:
    """The policy in memory, or the defaults. Raises ServingRefusedError for a model that is not registered."""
    if model not in models(view):
        raise ServingRefusedError("unknown_model", f"No model {model} is registered", "`isos models list` shows them.")
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
    reason = f"{wanted.model}: {fallbacks}, {tries}, {switches}{promise}"
    return command_of("SetServingPolicy", f"serving/{wanted.model}", to_json(wanted), reason, view, now_us)


def activation_command(model: str, version: str, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of an active version."""
    reason = f"{model} is to be served by {version} instead of {active_version(view, model)}"
    return command_of(
        "ActivateVersion", f"active/{model}", to_json(ActiveVersion(model, version)), reason, view, now_us
    )


class ServingControl:
    """An open connection to memory. Use ``async with``."""

    def __init__(self, connection: Connection, timeout_s: float = 30.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> ServingControl:
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

    async def set_policy(self, model: str, change: Change) -> ServingPolicy:
        """Have a model's policy changed and wait until it stands in memory; what stands already is a success.

        Raises ServingRefusedError, and WatchTimeoutError when nobody answers in time.
        """
        wanted = change(standing(self.view, model))
        if wanted != serving_policy(self.view, model):
            command = policy_command(wanted, self.view, time.time_ns() // 1000)
            await self._send(command, lambda view: serving_policy(view, model) == wanted)
        return wanted

    async def activate(self, model: str, version: str, *, wait_for_plan: bool = True) -> None:
        """Have another version serve a model, and wait until the plan says so. Raises as ``set_policy``."""
        standing(self.view, model)
        if model_version(self.view, model, version) is None:
            sentence = f"{model} has no version {version}"
            raise ServingRefusedError("unknown_version", sentence, f"`isos models show {model}` lists them.")
        if active_version(self.view, model) != version:
            command = activation_command(model, version, self.view, time.time_ns() // 1000)
            await self._send(command, lambda view: active_version(view, model) == version)
        if wait_for_plan:
            what = f"A plan of {model} with {version}"
            await self._memory.wait_for(lambda view: _is_planned(view, model, version), self._timeout_s, what)

    async def _send(self, command: MemoryCommand, stands: Callable[[MemoryView], bool]) -> None:
        """Propose, and wait for the answer."""
        if self._producer is None:
            self._producer = producer(self._connection, enable_idempotence=True)
            await start(self._producer, "connecting to write")
        value = self._codec.encode(COMMANDS_TOPIC, command)
        sent = self._producer.send_and_wait(full_name(COMMANDS_TOPIC), value, key=command.key.encode())
        await bounded(sent, SEND_TIMEOUT_S, "sending the command")
        view = await self._memory.wait_for(
            lambda view: stands(view) or rejection(view, command.command_id) is not None,
            self._timeout_s,
            f"The Orchestrator's answer about {command.key}",
        )
        refused = rejection(view, command.command_id)
        if refused is not None and not stands(view):
            remedy = f"`isos serving show {command.key.partition('/')[2]}` shows what stands."
            raise ServingRefusedError(refused.code, refused.message.rstrip("."), remedy)


def _is_planned(view: MemoryView, model: str, version: str) -> bool:
    effective = plan(view, model)
    return effective is not None and any(share.version == version for share in effective.versions)
