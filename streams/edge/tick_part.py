"""A partition's share of the edge's tick under way: which of its requests have passed, which became rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.committed import Progress
from streams.edge.quota import Charges, charges_of
from streams.edge.request_batch import RequestBatch
from streams.edge.request_ids import Span
from streams.edge.request_row import end
from streams.frame_builder import Row


@dataclass(slots=True)
class TickPart:
    """One partition's requests. ``passed``: whether each request has (bool [n]).

    ``rows``: those that are rows, by index; others are columns of ``batch``.
    """

    progress: Progress
    batch: RequestBatch
    span: Span
    passed: NDArray[np.bool_]
    rows: dict[int, Row]

    @classmethod
    def of(cls, progress: Progress, batch: RequestBatch, span: Span) -> TickPart:
        """A part whose rows have passed as the rule says; its columns have."""
        passed = np.ones(len(batch), np.bool_)
        for at, (_, has_passed) in batch.rows.items():
            passed[at] = has_passed
        return cls(progress, batch, span, passed, {at: row for at, (row, _) in batch.rows.items()})

    def row(self, at: int) -> Row:
        """The request as a row from now on."""
        found = self.rows.get(at)
        if found is None:
            found = self.rows[at] = self.batch.row(at)
        return found

    def columnar(self) -> NDArray[np.int64]:
        """Indexes of those that are columns still."""
        columnar = self.batch.signature >= 0
        columnar[list(self.rows)] = False
        return np.flatnonzero(columnar)

    def columnar_of(self, models: Collection[str]) -> list[int]:
        """Indexes of those of some models that are columns still."""
        mine = [number for number, each in enumerate(self.batch.signatures) if each.model in models]
        if not mine:
            return []
        columnar = self.columnar()
        chosen: list[int] = columnar[np.isin(self.batch.signature[columnar], mine)].tolist()
        return chosen

    def refuse(self, at: int, code: str, message: str, retry_after_ms: int) -> None:
        """End a request that had passed, as a row."""
        end(self.row(at), code, message, retry_after_ms)
        self.passed[at] = False

    def charges(self, chosen: NDArray[np.int64]) -> Charges:
        """What the requests at some indexes are charged."""
        batch = self.batch
        names = dict.fromkeys([each.tenant for each in batch.signatures])
        for row in self.rows.values():
            names.setdefault(row.tenant)
        place = {name: at for at, name in enumerate(names)}
        tenants = np.array([*[place[each.tenant] for each in batch.signatures], 0], np.int64)[batch.signature]
        for at, row in self.rows.items():
            tenants[at] = place[row.tenant]
        return charges_of(
            batch.partition, batch.offsets[chosen], batch.received_us[chosen], tenants[chosen], list(names)
        )  # fmt: skip
