"""A version that serves a share of a model's rows beside the active one: a value of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_PERCENT: Final = 99
"""A version with all rows is the active one."""


@dataclass(frozen=True, slots=True)
class Canary:
    """Body of ``canary/<model>``: the version that is tried, and its share of the rows in percent, 0 once it is over.

    The key stays when it is over, so that the next one is a later version of it.
    """

    model: str
    version: str
    weight_percent: int
