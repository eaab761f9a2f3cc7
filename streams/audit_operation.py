"""One audited operation as a value: who does it, what is known of it, and its records before and after. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.audit import AuditMetric, AuditRecord
from streams.errors import IsosError, RetriableError

DONE: Final = "done"
REFUSED: Final = "refused"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
MAX_TEXT: Final = 2_000
MAX_NAME: Final = 300
MAX_NAMES: Final = 100
REFUSING: Final = (3, 4)
"""Exit codes of errors that say: it was asked, and it was not done."""
OPEN: Final = (0, 5)
"""Exit codes of errors that say: it may be done yet, by somebody who approves it say."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does things: a person at a command line, or a process of ours. ``command``: the line, without secrets."""

    user: str
    source: str
    environment: str = "sandbox"
    change_ticket: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an operation before it begins; each is a field of ``AuditRecord``."""

    model_name: str = ""
    model_version: str = ""
    previous_version: str = ""
    deployment_strategy: str = ""
    resources: tuple[str, ...] = ()
    rollback_available: bool = False
    command_id: str = ""


NO_FACTS: Final = Facts()


@dataclass(slots=True)
class Operation:
    """An operation under way; whoever does it tells what becomes known, and ``after`` says it."""

    actor: Actor
    name: str
    operation_id: str
    begun_us: int
    facts: Facts = NO_FACTS
    outcome: str = DONE
    error_detail: str = ""
    _affected: list[str] = field(default_factory=list)
    _metrics: list[AuditMetric] = field(default_factory=list)

    def affected(self, *names: str) -> None:
        """Note what was changed: memory keys, topics, processes, records."""
        self._affected += [name for name in names if name not in self._affected]

    def metric(self, name: str, value: float) -> None:
        """Note a figure; the unit is the end of its name."""
        self._metrics.append(AuditMetric(name, float(value)))

    def ends(self, outcome: str, detail: str = "") -> None:
        """Note that it does not end well: refused, failed or unknown, and why."""
        self.outcome, self.error_detail = outcome, detail

    def ends_by(self, error: BaseException) -> None:
        """Note the error that ends it."""
        self.ends(*outcome_of(error))

    def before(self) -> AuditRecord:
        """The first record: what is about to be done."""
        actor, facts = self.actor, self.facts
        return AuditRecord(
            operation_id=_text(self.operation_id),
            phase="before",
            timestamp_us=self.begun_us,
            user=_text(actor.user),
            change_ticket=_text(actor.change_ticket),
            environment=_text(actor.environment),
            operation=_text(self.name),
            model_name=_text(facts.model_name),
            model_version=_text(facts.model_version),
            previous_version=_text(facts.previous_version),
            deployment_strategy=facts.deployment_strategy,
            resources=_names(facts.resources),
            command=_text(actor.command, MAX_TEXT),
            rollback_available=facts.rollback_available,
            source=_text(actor.source),
            command_id=_text(facts.command_id),
        )

    def after(self, now_us: int) -> AuditRecord:
        """The second record: how it ended, at ``now_us``."""
        return replace(
            self.before(),
            phase="after",
            timestamp_us=now_us,
            outcome=self.outcome,
            resources_affected=_names(self._affected),
            duration_seconds=max(0, now_us - self.begun_us) / 1e6,
            performance_metrics=tuple(self._metrics),
            error_detail=_text(self.error_detail, MAX_TEXT),
        )


Audited = Callable[[str, Facts], AbstractContextManager[Operation]]
"""Stands around what is done, by its name and facts, and has it recorded."""


@contextmanager
def unaudited(name: str, facts: Facts = NO_FACTS) -> Iterator[Operation]:
    """Stand around what nobody records; tests and tools without an audit log use it."""
    yield Operation(Actor("", ""), name, "", 0, facts)


def _text(text: str, most: int = MAX_NAME) -> str:
    """Text that every encoding takes, of bounded length; a command line may hold bytes that are none."""
    return text[:most].encode("utf-8", "replace").decode()


def _names(names: Sequence[str]) -> tuple[str, ...]:
    """As many names as a record holds, and how many there are more."""
    more = len(names) - MAX_NAMES
    return (*(_text(name) for name in names[:MAX_NAMES]), *([f"and {more} more"] if more > 0 else []))


def outcome_of(error: BaseException) -> tuple[str, str]:
    """How an operation ended that raised: refused, failed, or unknown where it may have been done; and the sentence."""
    sentence = str(error) or type(error).__name__
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
        return UNKNOWN, "it was interrupted"
    exit_code = getattr(error, "exit_code", 1) if isinstance(error, IsosError) else 1
    if isinstance(error, RetriableError) or exit_code in OPEN:
        return UNKNOWN, sentence
    if exit_code in REFUSING:
        return REFUSED, sentence
    return FAILED, sentence
