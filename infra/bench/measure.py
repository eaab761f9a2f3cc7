"""What a load run saw, as columns: one entry per request sent, matched with results by coordinate. Pure numpy.

Latency counts from the instant a request was *scheduled*, so a generator or a server that falls behind cannot hide it
(coordinated omission).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STATUSES: Final = {1: "ok", 2: "error", 3: "rejected", 4: "expired"}
"""Status numbers of ``streams.ledger.STATUS_LETTERS`` by the names used in reports."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sent:
    """Requests by their index: scheduled and sent instants (us since the epoch), and where the broker put them.

    ``partition`` and ``offset`` are -1 for a request the broker never acknowledged. ``load``: index into the mix.
    """

    scheduled_us: Ints
    sent_us: Ints
    partition: Ints
    offset: Ints
    load: Ints


@dataclass(frozen=True, slots=True)
class Received:
    """Results in order of arrival: coordinate of the request, instant of arrival (us), status number, reaped (0, 1).

    ``index``: the number of our request that the record's key names; -1 for anybody else's.
    """

    partition: Ints
    offset: Ints
    received_us: Ints
    status: Ints
    reaped: Ints
    index: Ints


@dataclass(frozen=True, slots=True)
class Matched:
    """Per request: latency of its first result in us (-1 = none), its status (0 = none), number of its results."""

    latency_us: Ints
    status: Ints
    results: Ints
    reaped: Ints
    foreign: int


def match(sent: Sent, received: Received) -> Matched:
    """Join results to requests by coordinate; results of other people's requests are only counted (``foreign``)."""
    requests, results = _pack(sent.partition, sent.offset), _pack(received.partition, received.offset)
    order = np.argsort(requests, kind="stable")
    place = np.searchsorted(requests[order], results)
    place_in = np.minimum(place, max(len(order) - 1, 0))
    known = requests[order][place_in] if len(order) else np.full(len(results), -1, np.int64)
    ours = (known == results) & (results >= 0)
    return _joined(sent, received, ours, order[place_in[ours]])


def match_by_id(sent: Sent, received: Received) -> Matched:
    """Join results to requests by the number in their key, for runs that note no acknowledgements."""
    ours = (received.index >= 0) & (received.index < len(sent.partition))
    return _joined(sent, received, ours, received.index[ours])


def _joined(sent: Sent, received: Received, ours: NDArray[np.bool_], index: Ints) -> Matched:
    """``index``: the request of each result that is one of ours."""
    size = len(sent.partition)
    counts = np.bincount(index, minlength=size).astype(np.int64)
    latency, status, reaped = (np.full(size, fill, np.int64) for fill in (-1, 0, 0))
    # Repeated indices: numpy keeps the last one written, so the reverse order keeps the first result.
    backwards = index[::-1]
    latency[backwards] = (received.received_us[ours] - sent.scheduled_us[index])[::-1]
    status[backwards] = received.status[ours][::-1]
    reaped[backwards] = received.reaped[ours][::-1]
    return Matched(latency, status, counts, reaped, int(np.count_nonzero(~ours)))


def located(size: int, num_partitions: int, refused: Ints, num_lost: int, received: Received) -> tuple[Ints, Ints]:
    """Partition and offset of ``size`` requests that were dealt out in turn, as far as results tell; else offset -2.

    Partition -1 where nothing was written: the ``refused`` ones, and of those without a result the last ``num_lost``,
    for which requests stayed unconfirmed is not known.
    """
    partition, offset = np.arange(size, dtype=np.int64) % num_partitions, np.full(size, -2, np.int64)
    ours = (received.index >= 0) & (received.index < size)
    offset[received.index[ours]] = received.offset[ours]
    partition[refused] = -1
    if num_lost:
        partition[np.flatnonzero(offset == -2)[-num_lost:]] = -1
    return partition, offset


def misplaced(sent: Sent, received: Received) -> int:
    """Count results whose key and coordinate contradict each other, and requests that overtook others of a partition.

    Requests of a partition are written in the order of their numbers, so their offsets must rise with them.
    """
    ours = (received.index >= 0) & (received.index < len(sent.partition))
    index = received.index[ours]
    known = sent.offset[index] >= 0
    wrong = (sent.partition[index] != received.partition[ours]) | (sent.offset[index] != received.offset[ours])
    total = int(np.count_nonzero(wrong & known))
    for partition in np.unique(sent.partition):
        offsets = sent.offset[(sent.partition == partition) & (sent.offset >= 0)]
        total += int(np.count_nonzero(np.diff(offsets) <= 0))
    return total


def _pack(partition: Ints, offset: Ints) -> Ints:
    """One number per coordinate (partition < 32768, offset < 2^48); -1 where there is none."""
    return np.where(partition < 0, np.int64(-1), (partition << 48) | offset)


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over the whole run; rate and latency (OK results only) over the requests scheduled after the warm-up.

    ``missing``: acknowledged requests without a result; ``unacknowledged``: the broker never confirmed them.
    Latencies are None where no request ended OK. ``misplaced``: see the function.
    """

    sent: int
    acknowledged: int
    unacknowledged: int
    ok: int
    error: int
    rejected: int
    expired: int
    missing: int
    duplicated: int
    reaped: int
    foreign: int
    misplaced: int
    measured: int
    rate_rps: float
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    late_start_p99_ms: float | None


def summarise(sent: Sent, matched: Matched, *, warmup_us: int, num_misplaced: int = 0) -> Summary:
    """Reduce a run; ``warmup_us``: requests scheduled in this first stretch stay out of rate and latency."""
    acked = sent.partition >= 0
    count = {name: int(np.count_nonzero(matched.status == number)) for number, name in STATUSES.items()}
    start_us = int(sent.scheduled_us[0]) + warmup_us if len(sent.scheduled_us) else 0
    measured = (sent.scheduled_us >= start_us) & (matched.status == 1)
    latency = matched.latency_us[measured]
    delays = (sent.sent_us - sent.scheduled_us)[sent.scheduled_us >= start_us]
    return Summary(
        sent=len(acked),
        acknowledged=int(np.count_nonzero(acked)),
        unacknowledged=int(np.count_nonzero(~acked)),
        **count,
        missing=int(np.count_nonzero(acked & (matched.results == 0))),
        duplicated=int(np.count_nonzero(matched.results > 1)),
        reaped=int(np.count_nonzero(matched.reaped)),
        foreign=matched.foreign,
        misplaced=num_misplaced,
        measured=len(latency),
        rate_rps=_rate(sent.scheduled_us[measured], latency, start_us),
        mean_ms=round(float(latency.mean()) / 1e3, 3) if len(latency) else None,
        p50_ms=_percentile(latency, 50),
        p99_ms=_percentile(latency, 99),
        max_ms=_percentile(latency, 100),
        late_start_p99_ms=_percentile(delays, 99),
    )


def _rate(scheduled_us: Ints, latency_us: Ints, start_us: int) -> float:
    """OK results per second between the end of the warm-up and the last of them."""
    if not len(latency_us):
        return 0.0
    elapsed_us = int((scheduled_us + latency_us).max()) - start_us
    return round(len(latency_us) * 1e6 / max(elapsed_us, 1), 1)


def _percentile(values_us: Ints, q: float) -> float | None:
    return round(float(np.percentile(values_us, q)) / 1e3, 3) if len(values_us) else None


def first_ok_after(sent: Sent, matched: Matched, instant_us: int) -> float | None:
    """Seconds from ``instant_us`` to the first OK result of a request sent at or after it; None when there is none."""
    after = (sent.sent_us >= instant_us) & (matched.status == 1)
    if not after.any():
        return None
    return float((sent.scheduled_us + matched.latency_us)[after].min() - instant_us) / 1e6
