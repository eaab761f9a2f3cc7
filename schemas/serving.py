"""How a model is served beside its plan, and which versions are kept from rows: values of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ServingPolicy:
    """Body of ``serving/<model>``; a model without one has the defaults.

    ``fallbacks``: versions that serve where the planned one cannot, first choice first; they take the same inputs.
    ``max_attempts``: tries of a row over the whole path, 1 = no second one. ``hedge``: a row that takes long is also
    given to another lane. ``breaker``: whether a version that fails its rows is kept from them.
    """

    model: str
    fallbacks: tuple[str, ...] = ()
    max_attempts: int = 2
    hedge: bool = False
    breaker: bool = True


@dataclass(frozen=True, slots=True)
class Breaker:
    """Body of ``breaker/<model>/<version>``: a breaker that is not closed; closing it removes the key.

    ``open``: no row goes to the version; ``half_open``: a few do, to see. ``reason`` holds the evidence. ``since_us``:
    when it came to this state, ``open_us`` how long it is (or was) to stay open.
    """

    model: str
    version: str
    state: Literal["open", "half_open"]
    reason: str
    since_us: int
    open_us: int

    @property
    def until_us(self) -> int:
        """When an open one lets rows through again to see."""
        return self.since_us + self.open_us
