"""Which versions of a model proved themselves in service, and its last roll-back to one: values of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

KEPT_GOOD: Final = 5


@dataclass(frozen=True, slots=True)
class GoodVersion:
    """A version that served ``num_rows`` rows from ``since_us`` to ``marked_us`` and nothing stood against it.

    ``plan_digest``: SHA-256 of the plan by which it served, 64 hexadecimal digits; empty where none was known.
    """

    version: str
    plan_digest: str
    since_us: int
    marked_us: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class KnownGood:
    """Body of ``good/<model>``: the versions that proved themselves, newest first, at most ``KEPT_GOOD``."""

    model: str
    versions: tuple[GoodVersion, ...]

    def has(self, version: str) -> bool:
        """Whether a version is among them."""
        return any(each.version == version for each in self.versions)


@dataclass(frozen=True, slots=True)
class Check:
    """What a check of a roll-back came to; ``validation_id`` is that of the Validator's record."""

    name: str
    passed: bool
    message: str
    validation_id: str = ""


@dataclass(frozen=True, slots=True)
class Rollback:
    """Body of ``rollback/<model>``: the last roll-back that was made without a person.

    ``trigger``: id of the alert or validation that called for it. Verified once ``to_version`` proved itself in service
    again and its checks passed; until then the incident ``rollback_id`` is open.
    """

    rollback_id: str
    model: str
    from_version: str
    to_version: str
    trigger: str
    reason: str
    at_us: int
    state: Literal["verifying", "verified"] = "verifying"
    checks: tuple[Check, ...] = ()
