"""Notes of a Router's decisions on their way to the log: best effort, and a bounded number at a time."""

from __future__ import annotations

from typing import Final, Protocol

from schemas.decision import RoutingDecision
from streams.codec import Codec
from streams.frame_effects import NoteDecision

TOPIC: Final = "inference.decisions"
ADMITTED: Final = "inference.admitted"
MOST_HELD: Final = 256


class RoutedBy(Protocol):
    """A Router's parameters, as far as a decision follows from them."""

    @property
    def num_lanes(self) -> int:
        """Lanes in all."""

    @property
    def num_slow_lanes(self) -> int:
        """How many of them are for slow models."""

    @property
    def hold_us(self) -> int:
        """How long a row waits for a plan."""


class DecisionNotes:
    """Notes of one process since the last ``close``; ``num_lost`` counts those that there was no room for."""

    def __init__(self, router: int, codec: Codec, params: RoutedBy) -> None:
        self.num_lost = 0
        self._router = router
        self._codec = codec
        self._params = params.num_lanes, params.num_slow_lanes, params.hold_us
        self._held: list[NoteDecision] = []

    def add(self, noted: NoteDecision) -> None:
        """Hold a note until it is told."""
        if len(self._held) < MOST_HELD:
            self._held.append(noted)
        else:
            self.num_lost += 1

    def close(self, now_us: int) -> list[tuple[str, RoutingDecision]]:
        """Topic and record of each note, in the order of the decisions; ``now_us`` is not looked at."""
        del now_us
        held, self._held = self._held, []
        return [(TOPIC, self._record(noted)) for noted in held]

    def _record(self, noted: NoteDecision) -> RoutingDecision:
        frame = noted.frame
        encoded = self._codec.encode(ADMITTED, frame)
        return RoutingDecision(
            self._router,
            frame.partition,
            frame.frame_id,
            noted.decided_us,
            noted.memory_sequence,
            *self._params,
            noted.rows,
            noted.outcome,
            encoded,
        )
