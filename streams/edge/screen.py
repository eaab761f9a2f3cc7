"""Which requests of a tick are refused because they would be done too late: the forecast asked in columns; pure.

Versions with little before them cost a look-up and a comparison per signature. Of the others each row is asked, in the
order of priorities and offsets: a row counts for those behind it only if it is admitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.edge.forecast import Forecast
from streams.edge.request_batch import RequestBatch
from streams.edge.service import SURE_US, Service
from streams.frame_builder import Row

MIN_RETRY_MS: Final = 50
AMPLE_US: Final = 2 * SURE_US
"""A budget that a wait below ``SURE_US`` cannot use up."""

Array = NDArray[Any]


class TooLate(NamedTuple):
    """A request to refuse: its index in the tick, the sentence, and when to try again."""

    at: int
    message: str
    retry_after_ms: int


@dataclass(eq=False, slots=True)
class _Close:
    """What a tick brought for a service whose queue is worth a closer look: signatures and rows.

    ``num_items``: of all; ``due_us``: of the most hurried; ``counts``: rows and items by priority.
    """

    num_items: int = 0
    due_us: int = 1 << 62
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    signatures: list[int] = field(default_factory=list)
    rows: list[tuple[int, Row]] = field(default_factory=list)

    def add(self, priority: int, num_rows: int, num_items: int, due_us: int) -> None:
        rows, items = self.counts.get(priority, (0, 0))
        self.counts[priority] = rows + num_rows, items + num_items
        self.num_items += num_items
        self.due_us = min(self.due_us, due_us)


def too_late(
    batch: RequestBatch, passed: Array, rows: Mapping[int, Row], forecast: Forecast, now_us: int
) -> list[TooLate]:
    """Refuse what would be late and count the rest as admitted. ``passed`` (bool [n]) and ``rows``: as in the tick."""
    refused: list[TooLate] = []
    for service, close in _close(batch, passed, rows, forecast, now_us).items():
        refused += _looked_at(service, close, batch, passed, rows, now_us)
    return refused


class _Asked(NamedTuple):
    """Requests of a tick for one service: all of a signature, or one row. ``due_us``: of the most hurried."""

    service: Service
    priority: int
    num_rows: int
    num_items: int
    due_us: int
    signature: int
    row: tuple[int, Row] | None


def _close(
    batch: RequestBatch, passed: Array, rows: Mapping[int, Row], forecast: Forecast, now_us: int
) -> dict[Service, _Close]:
    """Admit what is for services near no limit; the rest, by who serves it.

    Of one service either all or nothing: what were admitted at once would stand before the others of its priority.
    """
    asked = _asked(batch, passed, rows, forecast, now_us)
    ample_us = now_us + AMPLE_US
    num_items: dict[Service, int] = {}
    found: dict[Service, _Close] = {}
    for each in asked:
        num_items[each.service] = total = num_items.get(each.service, 0) + each.num_items
        if total > each.service.sure_items or each.due_us < ample_us:
            found.setdefault(each.service, _Close())
    for each in asked:
        close = found.get(each.service)
        if close is None:
            each.service.admitted(each.priority, each.num_rows, each.num_items, now_us)
            continue
        close.add(each.priority, each.num_rows, each.num_items, each.due_us)
        if each.row is None:
            close.signatures.append(each.signature)
        else:
            close.rows.append(each.row)
    return found


def _asked(
    batch: RequestBatch, passed: Array, rows: Mapping[int, Row], forecast: Forecast, now_us: int
) -> list[_Asked]:
    """What passed for services of which something is known."""
    asked: list[_Asked] = []
    if batch.signatures:
        columnar = _columnar(batch, passed, rows)
        oldest_us = int(batch.received_us.min())
        numbers = batch.signature if columnar is None else batch.signature[columnar]
        for number, count in enumerate(np.bincount(numbers, minlength=len(batch.signatures)).tolist()):
            each = batch.signatures[number]
            service = forecast.service(each.model, each.version, now_us) if count else None
            if service is not None:
                due_us = oldest_us + each.timeout_us
                asked.append(_Asked(service, each.priority, count, count * each.items, due_us, number, None))
    for at, row in rows.items():
        service = forecast.service(row.model, row.version, now_us) if passed[at] else None
        if service is not None:
            asked.append(_Asked(service, row.priority, 1, row.items, row.deadline_us, -1, (at, row)))
    return asked


def _columnar(batch: RequestBatch, passed: Array, rows: Mapping[int, Row]) -> Array | None:
    """Which requests are columns and have passed; None: all."""
    if not rows and passed.all():
        return None
    columnar: Array = passed & (batch.signature >= 0)
    columnar[list(rows)] = False
    return columnar


def _looked_at(
    service: Service, close: _Close, batch: RequestBatch, passed: Array, rows: Mapping[int, Row], now_us: int
) -> list[TooLate]:
    if service.latest_us(max(close.counts), close.num_items, now_us) <= close.due_us:
        for priority, (num_rows, num_items) in close.counts.items():
            service.admitted(priority, num_rows, num_items, now_us)
        return []
    refused: list[TooLate] = []
    places, priorities, items, deadlines = _columns(close, batch, passed, rows)
    for priority in np.unique(priorities).tolist():
        these = np.flatnonzero(priorities == priority)
        mine, due = items[these], deadlines[these]
        finish, wait = service.finish_us(priority, np.zeros(len(these)), mine, now_us)
        late = (wait > 0) & (finish > due)  # with nothing of this tick before it
        maybe = np.flatnonzero(~late)
        ahead = np.cumsum(mine[maybe]) - mine[maybe]
        finish[maybe], wait = service.finish_us(priority, ahead, mine[maybe], now_us)
        late[maybe] = (wait > 0) & (finish[maybe] > due[maybe])
        num_items = int(mine[~late].sum())
        if num_items:
            service.admitted(priority, len(these) - int(np.count_nonzero(late)), num_items, now_us)
        for index in np.flatnonzero(late).tolist():
            at = int(places[these[index]])
            refused.append(_refusal(service, at, int(finish[index]), int(due[index]), now_us))
    return refused


def _columns(
    close: _Close, batch: RequestBatch, passed: Array, rows: Mapping[int, Row]
) -> tuple[Array, Array, Array, Array]:
    """Index, priority, items and deadline of what is asked for, in the order of the offsets."""
    columnar = np.isin(batch.signature, close.signatures) & passed
    columnar[list(rows)] = False
    at = np.flatnonzero(columnar)
    of = np.array([(each.priority, each.items, each.timeout_us) for each in batch.signatures], np.int64).reshape(-1, 3)
    of = of[batch.signature[at]]
    table = np.column_stack((at, of[:, 0], of[:, 1], batch.received_us[at] + of[:, 2]))
    if close.rows:
        others = np.array([(at, row.priority, row.items, row.deadline_us) for at, row in close.rows], np.int64)
        table = np.concatenate((table, others))
        table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _refusal(service: Service, at: int, finish_us: int, due_us: int, now_us: int) -> TooLate:
    load = service.load
    done_ms, left_ms = max(0, finish_us - now_us) // 1000, max(0, due_us - now_us) // 1000
    retry_ms = max(MIN_RETRY_MS, -(-(finish_us - due_us) // 1000))
    retry_ms += retry_ms * (at * 0x9E3779B1 % 256) // 512  # so that those refused together do not come back together
    message = f"{load.model} {load.version} would be done with it in about {done_ms} ms, and {left_ms} ms are left"
    return TooLate(at, message, retry_ms)
