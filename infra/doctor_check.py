"""One check of the doctor, and how it came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``remedy`` is a command or what else to do, empty when all is well."""

    name: str
    state: State
    sentence: str
    remedy: str = ""
