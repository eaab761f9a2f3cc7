"""Rows that count for a model's SLO, in slots of time, and how fast they spend its error budget. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from schemas.serving import Slo
from schemas.telemetry import LATENCY_BOUNDS_MS, ModelWindow

Objective = Literal["latency", "errors"]

MAX_VERSIONS: Final = 8
OTHERS: Final = ""
"""Rows of no version, and of more versions than ``MAX_VERSIONS``: clients may name what they like."""
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows of a version in one slot of time: OK ones whose time is known and late ones, all that count and bad ones."""

    start_us: int
    num_timed: int
    num_late: int
    num_rows: int
    num_bad: int


Versions = Mapping[str, tuple[Slot, ...]]
"""Slots by version, oldest first."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a version has in a window."""

    version: str
    num_rows: int
    num_bad: int


class Count(NamedTuple):
    """Rows in a window, and those that were bad for an objective."""

    num_rows: int
    num_bad: int

    def burns(self, allowed_ppm: int, percent: int) -> bool:
        """Whether the burn rate is at least ``percent`` / 100; in whole numbers, so that every machine agrees."""
        return self.num_rows > 0 and self.num_bad * MILLION * 100 >= percent * self.num_rows * allowed_ppm

    def burn(self, allowed_ppm: int) -> float:
        """The share of bad rows over the allowed one, rounded; for people."""
        return round(self.num_bad * MILLION / (self.num_rows * allowed_ppm), 2) if self.num_rows else 0.0


def objectives(slo: Slo) -> Iterator[tuple[Objective, int]]:
    """Each objective that is set, with the parts per million of rows that may be bad."""
    if slo.latency_ms:
        yield "latency", slo.late_ppm
    if slo.error_ppm:
        yield "errors", slo.error_ppm


def slot_of(part: ModelWindow, slo: Slo, start_us: int) -> Slot | None:
    """A version's part of a telemetry window; None where it tells of no row that counts."""
    num_bad = part.num_error + part.num_expired
    bounds_in_time = bisect_left(LATENCY_BOUNDS_MS, slo.latency_ms) + 1
    num_late = sum(part.latency_counts[bounds_in_time:])
    slot = Slot(start_us, sum(part.latency_counts), num_late, part.num_ok + num_bad, num_bad)
    return slot if slot.num_rows else None


def added(versions: Versions, version: str, slot: Slot, oldest_us: int) -> Versions:
    """The slots with one more, and without those that begin before ``oldest_us``."""
    kept = {name: tuple(each for each in slots if each.start_us >= oldest_us) for name, slots in versions.items()}
    kept = {name: slots for name, slots in kept.items() if slots}
    if slot.start_us < oldest_us:
        return kept
    name = version if version in kept or len(kept) < MAX_VERSIONS else OTHERS
    return {**kept, name: _with(kept.get(name, ()), slot)}


def _with(slots: tuple[Slot, ...], slot: Slot) -> tuple[Slot, ...]:
    """Oldest first; one Validator may tell of its window later than another."""
    at = bisect_left(slots, slot.start_us, key=lambda each: each.start_us)
    if at == len(slots) or slots[at].start_us != slot.start_us:
        return (*slots[:at], slot, *slots[at:])
    known = slots[at]
    both = Slot(
        slot.start_us, known.num_timed + slot.num_timed, known.num_late + slot.num_late,
        known.num_rows + slot.num_rows, known.num_bad + slot.num_bad,
    )  # fmt: skip
    return (*slots[:at], both, *slots[at + 1 :])


def shares(versions: Versions, objective: Objective, first_us: int) -> tuple[Share, ...]:
    """Rows and bad rows per version, in the slots from ``first_us`` on."""
    found: list[Share] = []
    for version, slots in sorted(versions.items()):
        inside = [slot for slot in slots if slot.start_us >= first_us]
        if objective == "latency":
            rows, bad = sum(slot.num_timed for slot in inside), sum(slot.num_late for slot in inside)
        else:
            rows, bad = sum(slot.num_rows for slot in inside), sum(slot.num_bad for slot in inside)
        if rows:
            found.append(Share(version, rows, bad))
    return tuple(found)


def total(parts: tuple[Share, ...]) -> Count:
    """All versions together."""
    return Count(sum(each.num_rows for each in parts), sum(each.num_bad for each in parts))
