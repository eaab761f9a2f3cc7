"""An event of memory as the two audit records of the operation that it is. Pure.

Who proposed a command may have said so already (``infra.audit_trail``), with the person and the change; here stands
what came of it, joined by ``command_id``: activation, roll-back, plan, breaker, incident, approval, refusal. Both
records have the event's time, for the decision and its effect are one event; ``operation_id`` is its sequence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from schemas.audit import AuditRecord
from schemas.memory import MemoryEntry, MemoryEvent
from streams.audit_chain import MEMORY, SIGNER, Draft, value_hash
from streams.audit_operation import FAILED, MAX_TEXT, REFUSED, Actor, Facts, Operation
from streams.errors import PoisonRecordError
from streams.memory_fold import entry_of, void_reason
from streams.memory_view import MemoryHead, MemoryView, active_version
from streams.signing import is_public_key

SOURCE: Final = "orchestrator"
REJECTED: Final = "CommandRejected"
FORGOTTEN: Final = ("RejectionForgotten", "DecisionForgotten")
"""Events that only keep memory's keys bounded; what they remove was recorded when it came."""
OF_A_MODEL: Final = (
    *("model", "active", "plan", "canary", "cache", "serving", "breaker", "golden", "good", "rollback", "reference"),
)
DEPLOYING: Final = ("active", "plan", "canary")
SANDBOX: Final = "sandbox"
SIGNER_KEY: Final = f"signer/{SIGNER}"


def audited(before: MemoryView, event: MemoryEvent) -> tuple[AuditRecord, AuditRecord] | None:
    """The records of an event that follows ``before``; None for one that is no operation."""
    if event.kind in FORGOTTEN:
        return None
    environment = environment_name(before)
    command = f"{event.kind} {event.key}: {event.reason}"
    actor = Actor(event.agent, SOURCE, environment, command=command[:MAX_TEXT])
    facts = facts_of(before, event.key, event.body, event.command_id)
    operation = Operation(actor, f"memory.{event.kind}", f"memory-{event.sequence}", event.time_us, facts)
    if event.kind == REJECTED:
        body = _plain(event.body)
        operation.ends(REFUSED, f"{body.get('code', '')}: {body.get('message', event.reason)}")
    else:
        operation.affected(event.key)
    return operation.before(), operation.after(event.time_us)


class EventFold:
    """Memory folded beside its audit: hands over the drafts of each event, with memory as it stood before.

    ``public_keys``: every key that was ever registered for the signer of the audit log, oldest first.
    """

    def __init__(self, decode: Callable[[bytes | None], MemoryEvent]) -> None:
        self.head = MemoryHead()
        self.public_keys: list[str] = []
        self._decode = decode
        self._entries: dict[str, MemoryEntry] = {}

    @property
    def view(self) -> MemoryView:
        """Memory as it stands; good until the next ``take``."""
        return MemoryView(self.head.sequence, self.head.last_hash, 0, MappingProxyType(self._entries))

    def take(self, offset: int, value: bytes | None, now_us: int) -> tuple[Draft, ...]:
        """The drafts of the record of ``memory.events`` at ``offset``; none where it is no operation."""
        try:
            event = self._decode(value)
            why = void_reason(self.head, event)
        except PoisonRecordError as error:
            why = error.message
        if why is not None:
            return (Draft(MEMORY, offset, void_event(environment_name(self.view), offset, why, now_us)),)
        records = audited(self.view, event)
        self._enter(event, value)
        if records is None:
            return ()
        return Draft(MEMORY, offset, records[0], more=True), Draft(MEMORY, offset, records[1])

    def learn(self, value: bytes | None) -> None:
        """Take a record that is recorded already."""
        try:
            event = self._decode(value)
        except PoisonRecordError:
            return
        if void_reason(self.head, event) is None:
            self._enter(event, value)

    def _enter(self, event: MemoryEvent, value: bytes | None) -> None:
        self.head = MemoryHead(event.sequence, value_hash(value))
        if event.body is None:
            self._entries.pop(event.key, None)
        else:
            self._entries[event.key] = entry_of(event, event.body)
        key = _plain(event.body).get("public_key") if event.key == SIGNER_KEY else None
        if isinstance(key, str) and key not in self.public_keys and is_public_key(key):
            self.public_keys.append(key)


def void_event(environment: str, offset: int, why: str, now_us: int) -> AuditRecord:
    """The record of what somebody else wrote into ``memory.events``, at ``offset``, and no reader accepts."""
    operation = Operation(
        Actor("unknown", SOURCE, environment), "memory.foreign_write", f"memory-void-{offset}", now_us
    )
    operation.ends(FAILED, f"the record at offset {offset} is void: {why}")
    return operation.after(now_us)


def unreadable(environment: str, offset: int, why: str, now_us: int) -> AuditRecord:
    """The record of something in ``audit.intake``, at ``offset``, that is no audit record."""
    operation = Operation(Actor("unknown", SOURCE, environment), "audit.unreadable", f"intake-void-{offset}", now_us)
    operation.ends(FAILED, f"the record at offset {offset} of the intake cannot be read: {why}")
    return operation.after(now_us)


def environment_name(view: MemoryView) -> str:
    """What memory says the environment is; sandbox where it says nothing."""
    entry = view.entries.get("environment")
    return SANDBOX if entry is None else str(_plain(entry.body).get("name", SANDBOX))


def facts_of(before: MemoryView, key: str, text: str | None, command_id: str) -> Facts:
    """What a change of ``key`` to ``text`` (its body) says of the model it is about, given memory before it."""
    facts = Facts(command_id=command_id)
    body = _plain(text)
    kind, *parts = _subject(key, body).split("/")
    if kind not in OF_A_MODEL or not parts:
        return facts
    model = parts[0]
    version = parts[1] if len(parts) > 1 else _version(body)
    standing = before.entries.get(key)
    previous = _version(_plain(standing.body)) if kind == "plan" and standing is not None else ""
    previous = previous or active_version(before, model) or ""
    strategy = ""
    if kind in DEPLOYING:
        strategy = "canary" if kind == "canary" else "weighted" if len(_shares(body)) > 1 else "all_at_once"
    return replace(
        facts,
        model_name=model,
        model_version=version,
        previous_version=previous,
        deployment_strategy=strategy,
        rollback_available=previous not in ("", version) if kind in DEPLOYING else standing is not None,
    )


def _subject(key: str, body: dict[str, Any]) -> str:
    """The key that an event is about: its own, or that of the command which waits for an approval."""
    command = body.get("command")
    return str(command.get("key", key)) if isinstance(command, dict) else key


def _shares(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The versions of a plan that get requests."""
    versions = body.get("versions")
    shares = [each for each in versions if isinstance(each, dict)] if isinstance(versions, list) else []
    return [each for each in shares if isinstance(each.get("weight_percent"), int) and each["weight_percent"] > 0]


def _version(body: dict[str, Any]) -> str:
    """The version that a body names, a plan's the one with the largest share."""
    shares = _shares(body)
    if shares:
        body = max(shares, key=lambda each: int(each["weight_percent"]))
    version = body.get("version", "")
    return version if isinstance(version, str) else ""


def _plain(body: str | None) -> dict[str, Any]:
    try:
        plain = json.loads(body or "{}")
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}
