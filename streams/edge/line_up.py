"""Which rows of an edge's tick must wait behind earlier ones of their key, because their model is ordered."""

from __future__ import annotations

from collections.abc import Collection

from streams.committed import Holder
from streams.edge.late_rows import LateRow, LateRows, late_row
from streams.edge.tick_part import TickPart


def line_up(
    part: TickPart, holder: Holder, away: dict[tuple[int, int], LateRow], late: LateRows, ordered: Collection[str]
) -> None:
    """Put a tick's late rows of ordered models into the lines of their keys, and the rows behind them too.

    ``away``: the tick's late rows by partition and index; those that must wait now are added.
    """
    number = part.batch.partition
    at_rows = [at for at, row in part.rows.items() if row.model in ordered]
    if not at_rows and not late.lines:
        return
    for at in sorted([*at_rows, *part.columnar_of(ordered)]):
        row = part.row(at)
        if not row.routing_key:
            continue
        waiting = away.get((number, at))
        if waiting is not None:
            late.lines.join(waiting)
        elif late.lines.holds(part.progress, row):
            away[number, at] = behind = late_row(holder, row, b"", number)
            late.follow(behind)
