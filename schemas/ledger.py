"""Checkpoint of a partition's ledger: which requests have a result, up to which results offset that was folded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerCheckpoint:
    """State of one partition's terminals; key = partition.

    ``low_watermark``: every offset below it is terminal. ``bits``: packed bits (numpy packbits,
    little bit order) for the offsets from ``low_watermark`` on. ``results_offset``: first offset not yet folded.
    """

    topic_id: bytes
    partition: int
    low_watermark: int
    bits: bytes
    results_offset: int
    num_reaped: int
    written_us: int
