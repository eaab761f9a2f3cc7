"""A Router's decision on one frame, kept without tensors so that it can be derived again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoutedRows:
    """Rows that went one way: ``partition`` of ``topic`` (short name; "deferred" and -1: they wait)."""

    topic: str
    partition: int
    model: str
    version: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Where the rows of a frame went at ``decided_us``, by memory at ``memory_sequence``.

    ``partition``: of the requests. ``num_lanes``, ``num_slow_lanes``, ``hold_us``: the Router's parameters. ``frame``:
    the frame as it was decided on, less rows that were answered from the cache, as an encoded ``InferenceFrame``
    without tensors. ``outcome``: SHA-256 of all that was sent, without tensors (``agents.routing_decision``).
    """

    router: int
    partition: int
    frame_id: int
    decided_us: int
    memory_sequence: int
    num_lanes: int
    num_slow_lanes: int
    hold_us: int
    rows: tuple[RoutedRows, ...]
    outcome: bytes
    frame: bytes
