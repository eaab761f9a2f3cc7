"""Which configurations of a model proved themselves in service, and its last roll-back to one: values of memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal

from schemas.cache import CachePolicy
from schemas.serving import ServingPolicy

KEPT_GOOD: Final = 5
PROMISES: Final = ("model", "slo", "auto_rollback")
"""Fields of a serving policy that say what is promised and who may act, and not how rows are served."""
VERSION: Final = "version"


@dataclass(frozen=True, slots=True)
class Configuration:
    """How a version serves, beside its plan: the serving policy and the cache policy; None where none was ever set."""

    serving: ServingPolicy | None = None
    cache: CachePolicy | None = None

    def differences(self, other: Configuration) -> tuple[str, ...]:
        """In what the two serve rows differently: fields of the serving policy, then ``cache``; empty for nothing.

        What is promised does not count, nor does an epoch of the cache: a flush is no other way to serve.
        """
        mine, others = self.serving or ServingPolicy(""), other.serving or ServingPolicy("")
        names = [each.name for each in fields(ServingPolicy) if each.name not in PROMISES]
        found = [name for name in names if getattr(mine, name) != getattr(others, name)]
        return (*found, *(("cache",) if self._cached_s() != other._cached_s() else ()))

    def _cached_s(self) -> int:
        """For how long answers are cached, seconds; 0 where they are not."""
        return self.cache.ttl_s if self.cache is not None and self.cache.enabled else 0


@dataclass(frozen=True, slots=True)
class GoodVersion:
    """A version that served ``num_rows`` rows from ``since_us`` to ``marked_us`` and nothing stood against it.

    ``plan_digest``: SHA-256 of the plan by which it served, 64 hexadecimal digits; empty where none was known.
    ``since_us``: when it became active, or was served otherwise than before. ``configuration``: how it served all that
    time; None where an earlier release noted it.
    """

    version: str
    plan_digest: str
    since_us: int
    marked_us: int
    num_rows: int
    configuration: Configuration | None = None


@dataclass(frozen=True, slots=True)
class KnownGood:
    """Body of ``good/<model>``: the versions that proved themselves, newest first, at most ``KEPT_GOOD``."""

    model: str
    versions: tuple[GoodVersion, ...]

    def has(self, version: str) -> bool:
        """Whether a version is among them."""
        return self.of(version) is not None

    def of(self, version: str) -> GoodVersion | None:
        """How a version proved itself last, or None."""
        return next((each for each in self.versions if each.version == version), None)


@dataclass(frozen=True, slots=True)
class Activation:
    """Body of the command ``ActivateVersion``. With a ``configuration`` it is a roll-back to what proved itself so."""

    model: str
    version: str
    configuration: Configuration | None = None


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
    again and its checks passed; until then the incident ``rollback_id`` is open. ``restored``: what was put back, the
    ``version`` or what ``Configuration.differences`` names; where the version stayed, it is ``from_version``, too.
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
    restored: tuple[str, ...] = (VERSION,)
