"""What the Orchestrator knows when it judges a command, and what comes of it: changes, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ANY_VERSION: Final = -1


@dataclass(frozen=True, slots=True)
class Value:
    """A key's version and body."""

    version: int
    body: str


@dataclass(frozen=True, slots=True)
class State:
    """``seen``: recent command ids, oldest first; ``rejections``: keys of kept rejections, oldest first."""

    sequence: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)
    seen: tuple[str, ...] = ()
    rejections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One event to be: past-tense kind, key, new body (None removes the key)."""

    kind: str
    key: str
    body: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command is refused."""

    code: str
    message: str


Verdict = tuple[Change, ...] | Refusal


def keys_below(state: State, prefix: str) -> tuple[str, ...]:
    """Keys that begin so, in their order."""
    return tuple(key for key in sorted(state.values) if key.startswith(prefix))
