"""What a planted bug is, and how it is planted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Planted:
    """``changed`` stands in for ``name`` of ``owner``; ``rules``: one of them is what the simulation says.

    ``world``: what is set in the profiles of the worlds that it is looked for in; the rest is drawn.
    """

    owner: Any
    name: str
    changed: Callable[..., Any]
    rules: tuple[str, ...]
    world: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def plant(bug: Planted) -> Iterator[None]:
    """The code with a bug."""
    kept = vars(bug.owner)[bug.name]
    setattr(bug.owner, bug.name, bug.changed)
    try:
        yield
    finally:
        setattr(bug.owner, bug.name, kept)
