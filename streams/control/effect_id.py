"""Ids of the effects of journal entries, ``agent/sequence/index``, and what a receiver remembers of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from schemas.journal import JournalEntry

EFFECT_HEADER: Final = "isos-effect"


def effect_id(entry: JournalEntry, index: int) -> str:
    """Id of an entry's effect: ``agent/sequence/index``."""
    return f"{entry.agent}/{entry.sequence}/{index}"


def parse_effect_id(text: str) -> tuple[str, tuple[int, int]] | None:
    """Agent and (sequence, index) of an effect id, or None if it is none."""
    parts = text.rsplit("/", 2)
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return parts[0], (int(parts[1]), int(parts[2]))


@dataclass(slots=True)
class SeenEffects:
    """Last effect seen per source agent and place; what is not later was seen before. For every receiver of effects."""

    last: dict[str, tuple[int, int]] = field(default_factory=dict)

    def is_repeat(self, source: str, place: str) -> bool:
        """Whether the effect ``source`` (may be empty: never a repeat) was seen at ``place`` (``topic/partition``)."""
        parsed = parse_effect_id(source)
        return parsed is not None and parsed[1] <= self.last.get(f"{parsed[0]}|{place}", (-1, -1))

    def note(self, source: str, place: str) -> None:
        """Remember an effect."""
        parsed = parse_effect_id(source)
        if parsed is not None:
            self.last[f"{parsed[0]}|{place}"] = parsed[1]
