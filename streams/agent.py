"""What an agent is: a pure ``decide`` over typed records, and the declaration the interpreter runs it by.

    decide(state, event, params) -> (state, effects)

Time, ids and randomness arrive inside the event. An agent never performs I/O; the interpreter decodes, looks up,
decides, writes, sends and confirms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.coordinate import RecordCoordinate
from schemas.quick import quick


@dataclass(frozen=True, slots=True)
class Tick:
    """The clock as an event: arrives every ``tick_ms``."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that cannot be decoded, for an agent that wants to hear of such; ``code`` says how it is wrong."""

    code: str


@quick
@dataclass(frozen=True, slots=True)
class Event:
    """One input of ``decide``: a record (or ``Tick``), where it stood, the time it is decided at, looked-up answers.

    ``key`` is the record key as bytes (empty for a tick); ``timestamp_us`` the broker's timestamp of the record.
    ``answers`` is memory as it stands; ``looked_up`` what came back for the spec's ``lookups``, None where nothing was
    asked.
    """

    record: Any
    coordinate: RecordCoordinate
    now_us: int
    key: bytes = b""
    timestamp_us: int = 0
    answers: Any = None
    looked_up: Any = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Effect: send ``record`` to ``topic`` (short name, see ``streams.topics``). ``partition`` None = by key hash."""

    topic: str
    key: bytes
    record: Any
    partition: int | None = None


Effects = tuple[Any, ...]
NO_EFFECTS: Effects = ()
TICK = RecordCoordinate(topic="", partition=-1, offset=-1)


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """Declaration of an agent.

    ``consumes``: topics read in a consumer group (each record to one instance). ``watches``: topics every instance
    folds whole, up to the high watermark, before it is ready. ``emits``: topics it may write; anything else is refused.
    ``gather_ms``: what a control agent waits for more inputs after the first, so that one round takes several.
    ``unreadable``: topics of which a journaled agent also hears what cannot be decoded, as ``Unreadable``.
    ``ignores``: pure ``(state, record)``, true of records that would change nothing: a journaled agent's are then not
    even journaled. ``state_per``: one state per assigned source partition, or one per agent. ``journaled``: journal
    first (control plane). ``lookups``: pure ``(record, memory, params) -> what is asked, or None``, for a read before
    ``decide`` by the same memory; the frame shell runs it, the control plane's refuses such a spec. ``due``: when a
    state wants the next ``Tick``, in microseconds since the epoch, beside those of ``tick_ms``; frame shell only.
    ``forgotten``: fields of the state in earlier releases that mean nothing any more; a snapshot is taken up without.
    """

    name: str
    consumes: tuple[str, ...]
    emits: tuple[str, ...]
    initial: Callable[[Any], Any]
    decide: Callable[[Any, Event, Any], tuple[Any, Effects]]
    watches: tuple[str, ...] = ()
    tick_ms: int = 0
    gather_ms: int = 0
    lookups: Callable[[Any, Any, Any], Any] | None = None
    state_per: Literal["partition", "agent"] = "agent"
    journaled: bool = False
    ignores: Callable[[Any, Any], bool] | None = None
    params: Any = field(default=None)
    due: Callable[[Any], int] | None = None
    unreadable: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
