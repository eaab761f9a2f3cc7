"""Effects of the data plane: columnar, interpreted by ``streams.interpreter``."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.decision import RoutedRows
from schemas.frame import InferenceFrame
from schemas.ledger import LedgerCheckpoint
from schemas.quick import quick
from schemas.shadow import ShadowComparison
from streams.columns import Array


@quick
@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send a frame to a partition of a topic (short name); at least once."""

    topic: str
    partition: int
    frame: InferenceFrame


@quick
@dataclass(frozen=True, slots=True)
class Defer:
    """Give the frame back to ``decide`` when memory changes, at the latest at ``until_us``.

    Its input stays unacknowledged until then.
    """

    frame: InferenceFrame
    until_us: int


@quick
@dataclass(frozen=True, slots=True)
class Answer:
    """Write one result per row of ``frame`` through the fenced writer; ``Confirmed`` comes back when it stands."""

    frame: InferenceFrame
    completed_us: int
    reaped: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Confirmed:
    """Event: the results of ``offsets`` (int64) are acknowledged and ``results`` is folded up to ``results_offset``."""

    offsets: Array
    results_offset: int
    num_reaped: int = 0


@dataclass(frozen=True, slots=True)
class FillCache:
    """Have answers cached: key (32 bytes) and payload (``streams.cache.values``) of each; best effort, no outcome."""

    payloads: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class NoteDecision:
    """Keep how a frame was routed: the frame, ways and outcome as in ``schemas.decision``; best effort, no outcome."""

    frame: InferenceFrame
    decided_us: int
    memory_sequence: int
    rows: tuple[RoutedRows, ...]
    outcome: bytes


@dataclass(frozen=True, slots=True)
class NoteShadows:
    """Tell how shadows' copies compare with their rows; best effort, no outcome."""

    comparisons: tuple[ShadowComparison, ...]


@dataclass(frozen=True, slots=True)
class WriteCheckpoint:
    """Write the partition's ledger checkpoint."""

    checkpoint: LedgerCheckpoint


@dataclass(frozen=True, slots=True)
class ScanRequests:
    """Re-read ``requests`` from ``first`` up to and excluding ``end`` or the first record younger than ``before_us``.

    The records seen come back as ``Scanned``.
    """

    first: int
    end: int
    before_us: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """Event: between ``first`` and ``end`` (exclusive) a request stands at ``offsets`` (int64), nowhere else.

    ``frame`` holds these requests as rows without tensors, in offset order (None when there are none).
    """

    first: int
    end: int
    offsets: Array
    frame: InferenceFrame | None


@dataclass(frozen=True, slots=True)
class Followed:
    """Event: from now on every executed frame of the partition is heard of (``Answered``), or no more is.

    What was executed before the first of them may have gone unheard.
    """

    on: bool


@dataclass(frozen=True, slots=True)
class MemorySilent:
    """Event: nothing was heard of memory for longer than it may be trusted (``on``), or something is heard again."""

    on: bool


@quick
@dataclass(frozen=True, slots=True)
class Answered:
    """Event: an executed frame stands in the log. Columns as in the frame; ``executor`` names who ran it, or is empty.

    ``offsets`` int64, ``statuses`` and ``roles`` uint8, one per row.
    """

    offsets: Array
    statuses: Array
    roles: Array
    executor: str
