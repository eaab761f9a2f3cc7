"""What one partition's run has under way: events that are not acknowledged, and frames of which sends are; pure.

Two bounds: ``WINDOW`` for the frames whose sends are under way, and a wider one for all that is not acknowledged, for
frames that wait (for a plan, for another try) hold up the acknowledgement of those behind them, but not their work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from streams.ordering import Entry, InOrder

WINDOW: Final = 256
UNFINISHED_WINDOWS: Final = 16
MAX_UNFINISHED_BYTES: Final = 64 << 20


class RunWindow:
    """The events of one run, in the order they came.

    ``acknowledge`` gets an event when all its parts, and the events before it, are finished. ``roomier`` is called when
    there is more room, while ``is_waited_for``. Where an entry is asked for, None stands for what no event caused.
    """

    def __init__(self, acknowledge: Callable[[Any], None], roomier: Callable[[], None]) -> None:
        self._acknowledge = acknowledge
        self._roomier = roomier
        self._events: InOrder[Any] = InOrder()
        self._sending: dict[Entry[Any], int] = {}
        self._num_bytes = 0
        self.is_waited_for = False

    def __len__(self) -> int:
        """Events that are not acknowledged."""
        return len(self._events)

    @property
    def num_sending(self) -> int:
        """Frames of which something is sent and not confirmed; at most ``WINDOW``."""
        return len(self._sending)

    @property
    def is_sending_enough(self) -> bool:
        """Whether nothing more may be sent, except for frames of which something is under way."""
        return len(self._sending) >= WINDOW

    @property
    def has_room(self) -> bool:
        """Whether another event may be taken."""
        return (
            len(self._sending) < WINDOW
            and len(self._events) < UNFINISHED_WINDOWS * WINDOW
            and self._num_bytes < MAX_UNFINISHED_BYTES
        )

    def unfinished(self) -> list[Any]:
        """Events that are not acknowledged, oldest first."""
        return self._events.unfinished()

    def start(self, event: Any) -> Entry[Any]:
        """Take an event; its decision is the first of its parts."""
        self._num_bytes += len(event.message.value or b"")
        return self._events.start(event)

    def hold(self, entry: Entry[Any] | None) -> None:
        """Note one part more that is to be finished."""
        if entry is not None:
            self._events.add(entry)

    def send(self, entry: Entry[Any] | None) -> None:
        """Note a part that is sent."""
        self.hold(entry)
        if entry is not None:
            self._sending[entry] = self._sending.get(entry, 0) + 1

    def confirm(self, entry: Entry[Any] | None) -> None:
        """A part that was sent stands."""
        if entry is None:
            return
        count = self._sending[entry] - 1
        if count:
            self._sending[entry] = count
        else:
            del self._sending[entry]
            self._tell()
        self.finish(entry)

    def finish(self, entry: Entry[Any] | None) -> None:
        """A part is finished."""
        if entry is None:
            return
        for event in self._events.finish(entry):
            self._num_bytes -= len(event.message.value or b"")
            self._tell()
            self._acknowledge(event)

    def _tell(self) -> None:
        if self.is_waited_for:
            self._roomier()
