"""What memory says of the environment: what it is, what must be approved in it, and who may sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from schemas.memory import MemoryCommand
from schemas.review import ReviewRequest

ENVIRONMENTS: Final = ("sandbox", "staging", "production")
"""By rank: each is stricter than the one before."""

DAY_S: Final = 86_400
GATED_KINDS: Final = ("ActivateVersion",)


@dataclass(frozen=True, slots=True)
class Environment:
    """Body of ``environment``: which commands wait for an approval here, and how long.

    ``gated``: kinds of commands of people. ``development_policy``: a sandbox only; the Reviewer approves by itself and
    writes down what it skipped. ``review_s``: seconds after which what nobody approved is refused.
    """

    name: Literal["sandbox", "staging", "production"] = "sandbox"
    gated: tuple[str, ...] = GATED_KINDS
    development_policy: bool = True
    review_s: int = DAY_S

    @property
    def is_sandbox(self) -> bool:
        """Whether the development policy may stand in for people here."""
        return self.name == "sandbox"


@dataclass(frozen=True, slots=True)
class Signer:
    """Body of ``signer/<name>``: whose signatures count. ``public_key``: Ed25519, 64 hexadecimal digits.

    ``kind``: a person, who may approve, or a process of ours (``orchestrator`` signs the heads of the audit log), which
    may not. A revoked one stays, so that old signatures can be told; ``revoked_us`` is 0 while it holds.
    """

    name: str
    public_key: str
    kind: Literal["person", "process"] = "person"
    revoked_us: int = 0


@dataclass(frozen=True, slots=True)
class OpenReview:
    """Body of ``review/<id>``: what waits for an approval, as it was asked and as it will be done."""

    request: ReviewRequest
    command: MemoryCommand
