"""Latency over time and by model, out of a run's columns. Pure numpy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.bench.measure import STATUSES, Matched, Sent

OK: Final = 1
REJECTED: Final = 3

Mask = NDArray[np.bool_]


def timeline(sent: Sent, matched: Matched, bucket_s: float = 1.0) -> list[dict[str, Any]]:
    """A row per stretch of ``bucket_s`` since the first request: what was scheduled in it and how that ended.

    ``t_s`` is where it begins; latencies of OK results in ms, None where there is none.
    """
    if not len(sent.scheduled_us):
        return []
    bucket = ((sent.scheduled_us - sent.scheduled_us[0]) // int(bucket_s * 1e6)).astype(np.int64)
    edges = np.searchsorted(bucket, np.arange(int(bucket[-1]) + 2))
    rows = []
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        status, latency = matched.status[first:last], matched.latency_us[first:last]
        row: dict[str, Any] = {"t_s": round(number * bucket_s, 3), "offered": int(last - first)}
        row |= {name: int(np.count_nonzero(status == code)) for code, name in STATUSES.items()}
        rows.append(row | percentiles(latency[status == OK]))
    return rows


def percentiles(latency_us: NDArray[np.int64]) -> dict[str, float | None]:
    """Mean, median, 99th percentile and maximum in ms; None of nothing."""
    if not len(latency_us):
        return {"mean_ms": None, "p50_ms": None, "p99_ms": None, "max_ms": None}
    p50, p99, most = np.percentile(latency_us, (50, 99, 100)) / 1e3
    return {
        "mean_ms": round(float(latency_us.mean()) / 1e3, 3),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "max_ms": round(float(most), 3),
    }


def scheduled_between(sent: Sent, first_s: float, last_s: float) -> Mask:
    """Mark the requests scheduled in a stretch, in seconds since the first request."""
    start = sent.scheduled_us[0] if len(sent.scheduled_us) else 0
    since = (sent.scheduled_us - start) / 1e6
    mask: Mask = (since >= first_s) & (since < last_s)
    return mask


def of_loads(sent: Sent, numbers: Sequence[int]) -> Mask:
    """Mark the requests of some loads of the mix."""
    mask: Mask = np.isin(sent.load, np.array(numbers, np.int64))
    return mask


def counts(matched: Matched, mask: Mask) -> dict[str, int]:
    """How the marked requests ended, and how many there are (``sent``)."""
    status = matched.status[mask]
    found = {name: int(np.count_nonzero(status == code)) for code, name in STATUSES.items()}
    return {"sent": len(status), **found}


def settled_s(sent: Sent, matched: Matched, first_s: float, last_s: float, limit_ms: float) -> float | None:
    """Seconds after ``first_s`` from which on p99 stays under ``limit_ms`` and all is OK, until ``last_s``.

    Looked at in stretches of half a second; None when the last one is not so.
    """
    start = first_s
    settled: float | None = None
    while start < last_s - 0.25:
        mask = scheduled_between(sent, start, min(start + 0.5, last_s))
        latency = matched.latency_us[mask & (matched.status == OK)]
        good = len(latency) == int(mask.sum()) and bool(
            not len(latency) or np.percentile(latency, 99) < limit_ms * 1000
        )
        if not good:
            settled = None
        elif settled is None:
            settled = round(start - first_s, 3)
        start += 0.5
    return settled
