"""Executors that scaling ended are not silent: they left. Pure; the Monitor's part for ``ScaleConfirmation``.

A heartbeat may be read after the confirmation of its process's end, for they are on different topics: one that was sent
before that is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.presence import Processes, forget
from schemas.scaling import ScaleConfirmation
from schemas.telemetry import Heartbeat
from streams.agent import Effects

Departed = Mapping[str, int]
"""When each process was last said to have been ended, by ``role-instance``, microseconds since the epoch."""


def depart(
    processes: Processes, departed: Departed, confirmation: ScaleConfirmation, now_us: int
) -> tuple[Processes, Departed, Effects]:
    """Forget who was ended, and end the alerts of their silence; one heard since has been started again."""
    stopped = sorted(set(confirmation.stopped))
    gone = [name for name in stopped if name not in processes or processes[name].heard_us <= confirmation.time_us]
    if not gone:
        return processes, departed, ()
    processes, effects = forget(processes, gone, now_us)
    return processes, {**departed, **dict.fromkeys(gone, confirmation.time_us)}, effects


def is_late(departed: Departed, name: str, heartbeat: Heartbeat) -> bool:
    """Whether the process was ended after it sent this."""
    return heartbeat.sent_us <= departed.get(name, -1)
