"""When the executors hold a canary, so that a plan may give it rows; and the shares of such a plan. Pure.

A part of the Planner. Executors load a canary as soon as memory names it and say in each heartbeat what they hold. It
is warm once, ``SETTLE_US`` after the first of them was heard, every executor of the model's lanes that was heard within
``STALE_US`` and holds it or the active version holds the canary: each of them says so within a second. A share that is
raised later does not wait. One that no executor can load stays without rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.canary import Canary
from schemas.coordinate import RecordCoordinate
from schemas.plan import VersionWeight
from schemas.telemetry import Heartbeat

SETTLE_US: Final = 1_500_000
STALE_US: Final = 10_000_000
REPEAT_US: Final = 4_000_000
"""The same word of an executor is taken again after so long, that it is not stale."""


@dataclass(frozen=True, slots=True)
class Word:
    """What executor ``instance`` said last: whether it ``holds`` the canary, when by its clock, when it was heard."""

    instance: int
    holds: bool
    sent_us: int
    heard_us: int


@dataclass(frozen=True, slots=True)
class Split:
    """The canary of a model as memory has it (``percent`` 0: none). ``words`` by executor, while it is not warm.

    ``since_us``: when the first of them was heard; ``cause``: where memory says so.
    """

    version: str = ""
    percent: int = 0
    is_warm: bool = False
    since_us: int = 0
    words: Mapping[str, Word] = field(default_factory=dict)
    cause: RecordCoordinate | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether it is yet to be held by executors."""
        return self.percent > 0 and not self.is_warm


def learnt(split: Split, canary: Canary, cause: RecordCoordinate) -> Split:
    """The split after memory's word; another share of the same version needs no loading."""
    if not canary.weight_percent:
        return Split()
    if split.percent and split.version == canary.version:
        return replace(split, percent=canary.weight_percent, cause=cause)
    return Split(canary.version, canary.weight_percent, cause=cause)


def tells(split: Split, model: str, active: str, beat: Heartbeat) -> bool:
    """Whether a heartbeat says something of an awaited canary that is not known, or not lately."""
    word = _word(split, model, active, beat, 0) if split.is_awaited else None
    if word is None:
        return False
    known = split.words.get(_name(beat))
    return known is None or known.holds != word.holds or beat.sent_us - known.sent_us >= REPEAT_US


def heard(split: Split, model: str, active: str, beat: Heartbeat, now_us: int) -> Split:
    """The split with an executor's word; the same object where it says nothing of it."""
    if not tells(split, model, active, beat):
        return split
    word = _word(split, model, active, beat, now_us)
    words = split.words if word is None else {**split.words, _name(beat): word}
    return replace(split, words=words, since_us=split.since_us or now_us)


def settled(split: Split, now_us: int, first_slow: int = 0, *, is_slow: bool = False) -> Split:
    """The split with what time says: whether it is warm by now; the same object where it is not.

    ``first_slow``: least number of an executor of the slow lanes, 0: there is none; ``is_slow``: those serve the model.
    """
    if not split.is_awaited or not split.since_us or now_us - split.since_us < SETTLE_US:
        return split
    fresh = [word for _, word in sorted(split.words.items()) if now_us - word.heard_us < STALE_US]
    mine = [word.holds for word in fresh if not first_slow or (word.instance >= first_slow) == is_slow]
    return replace(split, is_warm=True, words={}) if mine and all(mine) else split


def shares(split: Split, active: str) -> tuple[VersionWeight, ...]:
    """Versions and weights of a plan: the active one first, so that a larger share of the canary only adds keys."""
    if not split.percent or not split.is_warm or split.version == active:
        return (VersionWeight(active, 100),)
    return VersionWeight(active, 100 - split.percent), VersionWeight(split.version, split.percent)


def _word(split: Split, model: str, active: str, beat: Heartbeat, now_us: int) -> Word | None:
    """An executor's word; None of one that has nothing to do with the model yet."""
    if beat.role != "executor":
        return None
    held = {each.version for each in beat.models if each.model == model}
    if active not in held and split.version not in held:
        return None
    return Word(beat.instance, split.version in held, beat.sent_us, now_us)


def _name(beat: Heartbeat) -> str:
    return f"{beat.role}-{beat.instance}"
