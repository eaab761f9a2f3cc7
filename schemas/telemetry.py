"""What processes say about themselves: heartbeats, one-second windows, load and alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.coordinate import RecordCoordinate

_STEPS: Final = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)
LATENCY_BOUNDS_MS: Final = (
    *(1, 2, 3, 4, 5, 6, 8),
    *(step * scale for scale in (1, 10, 100, 1000) for step in _STEPS if step * scale <= 60_000),
)
"""Upper bounds of ``ModelWindow.latency_counts``; steps of 20 to 100 %, the numbers in which people give targets."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version an executor has loaded and warmed; ``fixed_us`` + ``per_item_us`` * n is its profiled t(n)."""

    model: str
    version: str
    digest: str
    execution_provider: str
    fixed_us: float
    per_item_us: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life of a process (``role`` edge, router, executor, ...; ``instance`` its number), each second.

    Of an executor: ``device`` as set (auto, cuda, cpu) and the ``execution_provider`` that sessions get; since the last
    heartbeat, the share of time in which batches ran (``busy``), that which their items would have taken in full
    batches (``useful``), and the mean ``batch_fill``.
    """

    role: str
    instance: int
    pid: int
    started_us: int
    sent_us: int
    memory_sequence: int
    models: tuple[LoadedModel, ...] = ()
    device: str = ""
    execution_provider: str = ""
    busy: float = 0.0
    useful: float = 0.0
    batch_fill: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelWindow:
    """Counts of one model version in a telemetry window; times are sums in microseconds over ``num_rows``.

    ``latency_counts``: OK rows by time, up to each of ``LATENCY_BOUNDS_MS``, then those above all of them; zeros at the
    end are left out, and a stage that does not tell has none.
    """

    model: str
    version: str
    num_rows: int
    num_ok: int
    num_error: int
    num_rejected: int
    num_expired: int
    total_us: int
    max_us: int
    latency_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheWindow:
    """Rows of one model version that were looked up in the result cache in a window."""

    model: str
    version: str
    num_hits: int
    num_misses: int


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A stage's window of about one second.

    ``num_cache_forged``: cached values that this stack did not write; ``num_cache_unanswered``: look-ups without an
    answer in time.
    """

    stage: str
    instance: int
    window_start_us: int
    window_us: int
    num_frames: int
    queue_depth: int
    models: tuple[ModelWindow, ...]
    caches: tuple[CacheWindow, ...] = ()
    num_cache_forged: int = 0
    num_cache_unanswered: int = 0


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """What the Router's process ``instance`` sees of a model: rows per second given to lanes, rows held without a plan.

    ``items_per_s``: batch items in those rows; ``refused_per_s``: rows that it ended with an error. A model without
    rows is told once as zero and then not at all. Where ``source`` is edge, it is what an edge refused because
    executors would be too late with it: ``refused_per_s`` and their ``items_per_s``.
    """

    model: str
    rows_per_s: float
    num_held: int
    sent_us: int
    instance: int = 0
    items_per_s: float = 0.0
    refused_per_s: float = 0.0
    source: str = "router"


@dataclass(frozen=True, slots=True)
class Alert:
    """Raised (``resolved`` False) and later resolved by the Monitor; ``alert_id`` joins the two.

    ``model`` and ``version``: the model it is about and the version to blame, where there is one.
    """

    alert_id: str
    kind: str
    subject: str
    severity: str
    message: str
    evidence: str
    resolved: bool
    time_us: int
    causes: tuple[RecordCoordinate, ...] = ()
    model: str = ""
    version: str = ""
