"""From a file to memory: check a model, store its blob, propose it to the Orchestrator, wait until it is planned.

Registering the same again is a success that changes nothing; other bytes or another manifest under a registered
version are refused, because versions never change.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from executors.manifest import Manifest
from executors.model_check import Finding, checked_model
from executors.model_store import ModelStore
from infra.audit_trail import CommandAudit
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from streams.audit_facts import environment_name, facts_of
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import IsosError
from streams.memory_view import MemoryView, model_version, models, plan, rejection
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch

COMMANDS_TOPIC: Final = "memory.commands"
AGENT: Final = "cli"
KIND: Final = "RegisterModel"
SEND_TIMEOUT_S: Final = 10.0

Progress = Callable[[str], None]


class RefusedError(IsosError):
    """The model was not registered, and sending it again does not help; ``remedy`` is what to do."""

    exit_code = 4

    def __init__(self, code: str, sentence: str, remedy: str) -> None:
        super().__init__(code, sentence, remedy)
        self.code = code
        self.sentence = sentence
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of a version: ``registered`` now or ``already_registered``; whether the model has a plan."""

    version: ModelVersion
    outcome: Literal["registered", "already_registered"]
    planned: bool
    memory_sequence: int
    findings: tuple[Finding, ...] = ()


def silent(sentence: str) -> None:
    """Progress for nobody."""
    del sentence


def checked_version(
    blob: bytes, name: str, version: str, manifest: Manifest
) -> tuple[ModelVersion, tuple[Finding, ...]]:
    """Run the checks of ``executors.model_check``. Raises RefusedError with the sentence of the first that fails.

    Outputs that the manifest does not state are derived.
    """
    checked = checked_model(blob, manifest.to_version(name, version, blob))
    facts, findings = checked.version, checked.findings
    verdict = findings[-1]
    if not verdict.passed:
        raise RefusedError(f"model_{verdict.check}", verdict.message, "Correct the file or its manifest and try again.")
    return facts, findings


def command_for(facts: ModelVersion, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal; its id is a digest of what it says, so that sending it twice is one change.

    A proposal that was refused before gets another id, or the old refusal would answer it.
    """
    key, body = key_of(facts), to_json(facts)
    command_id = _command_id(key, body, 0)
    if rejection(view, command_id) is not None:
        command_id = _command_id(key, body, view.sequence)
    reason = f"{facts.model} {facts.version} was handed in, {facts.size_bytes} bytes"
    return MemoryCommand(command_id, AGENT, KIND, key, 0, body, reason, (), now_us)


def key_of(facts: ModelVersion) -> str:
    """The memory key of a version."""
    return f"model/{facts.model}/{facts.version}"


def _command_id(key: str, body: str, salt: int) -> str:
    return "register-" + hashlib.sha256(f"{key}\n{body}\n{salt}".encode()).hexdigest()[:32]


def is_registered(view: MemoryView, facts: ModelVersion) -> bool:
    """Whether exactly this version stands in memory. Raises RefusedError where another one of the same name does."""
    known = model_version(view, facts.model, facts.version)
    if known is None or known == facts:
        return known is not None
    what = "another file" if known.digest != facts.digest else "another manifest"
    raise RefusedError(
        "version_exists",
        f"{facts.model} {facts.version} is registered with {what}",
        f"A version never changes; choose the next one. `isos models show {facts.model}` lists them.",
    )


class Registrar:
    """An open connection to memory for registering one or many models. Use ``async with``."""

    def __init__(
        self,
        connection: Connection,
        store: ModelStore,
        timeout_s: float = 30.0,
        *,
        audit: CommandAudit | None = None,
    ) -> None:
        self._audit = audit
        self._connection = connection
        self._store = store
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Registrar:
        """Read the schemas and memory to their ends. Raises RetriableError when the broker is away."""
        self._codec = Codec(await read_schema_ids(self._connection))
        self._memory = MemoryWatch(self._connection, self._codec)
        await self._memory.start(self._timeout_s)
        self._producer = producer(self._connection, enable_idempotence=True)
        await start(self._producer, "connecting to write")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close both clients."""
        await self._memory.stop()
        await stop_quietly(self._producer)

    @property
    def view(self) -> MemoryView:
        """Memory as it stands now."""
        return self._memory.view

    async def register(
        self, blob: bytes, facts: ModelVersion, *, wait_for_plan: bool = True, progress: Progress = silent
    ) -> Registration:
        """Store the blob, propose the version, wait for memory. ``facts`` must have passed the checks.

        Raises RefusedError, WatchTimeoutError when nobody answers in time, StoreUnwritableError.
        """
        already = is_registered(self.view, facts)
        progress("storing the file")
        self._store.put(blob)
        if not already:
            progress("waiting for the Orchestrator")
            await self._audited(facts)
        if wait_for_plan:
            progress("waiting for a plan")
            await self.wait_for_plan(facts.model)
        outcome: Literal["registered", "already_registered"] = "already_registered" if already else "registered"
        return Registration(facts, outcome, plan(self.view, facts.model) is not None, self.view.sequence)

    async def wait_for_plan(self, model: str) -> None:
        """Wait until a plan for the model is effective. Raises WatchTimeoutError."""
        what = f"A plan for {model}"
        await self._memory.wait_for(lambda view: plan(view, model) is not None, self._timeout_s, what)

    async def _audited(self, facts: ModelVersion) -> None:
        """Propose it; the audit log hears of it before and after, where there is one to tell."""
        command = command_for(facts, self.view, time.time_ns() // 1000)
        if self._audit is None:
            await self._propose(facts, command)
            return
        known = facts_of(self.view, command.key, command.body, command.command_id)
        where = environment_name(self.view)
        async with self._audit.operation(f"command.{KIND}", known, self._producer, self._codec, where) as operation:
            await self._propose(facts, command)
            operation.affected(command.key)
            operation.metric("size_bytes", facts.size_bytes)

    async def _propose(self, facts: ModelVersion, command: MemoryCommand) -> None:
        value = self._codec.encode(COMMANDS_TOPIC, command)
        sent = self._producer.send_and_wait(full_name(COMMANDS_TOPIC), value, key=command.key.encode())
        await bounded(sent, SEND_TIMEOUT_S, "sending the command")
        view = await self._memory.wait_for(
            lambda view: command.key in view.entries or rejection(view, command.command_id) is not None,
            self._timeout_s,
            f"The Orchestrator's answer about {facts.model} {facts.version}",
        )
        refused = rejection(view, command.command_id)
        if refused is not None and not is_registered(view, facts):
            raise RefusedError(
                refused.code, refused.message.rstrip("."), f"`isos models show {facts.model}` shows what stands there."
            )
        is_registered(view, facts)  # somebody else may have been first, with other bytes


def versions(view: MemoryView, name: str | None = None) -> tuple[ModelVersion, ...]:
    """Registered versions, of all models or of one, in the order of registration within a model."""
    known = models(view)
    return tuple(facts for model in sorted(known) if name in (None, model) for facts in known[model])
