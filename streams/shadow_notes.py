"""What the Validator says of shadows' copies, on its way to the log: best effort, and a bounded number of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from schemas.shadow import ShadowComparison
from streams.frame_effects import NoteShadows

TOPIC: Final = "inference.shadow"
MOST_ROWS: Final = 20_000
COLUMNS: Final = (
    *("offsets", "id_lengths", "ids", "statuses", "primary_statuses", "latencies_us", "primary_latencies_us"),
    *("runs_us", "primary_runs_us", "digests", "primary_digests", "agreements"),
)


class ShadowNotes:
    """Comparisons of one process since the last ``close``; rows that there is no room for count as unheard."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str, bytes, int], list[ShadowComparison]] = {}
        self._num_rows = 0

    def add(self, noted: NoteShadows) -> None:
        """Hold comparisons until they are told."""
        for each in noted.comparisons:
            count = len(each.statuses)
            if self._num_rows + count > MOST_ROWS:
                empty: dict[str, Any] = dict.fromkeys(COLUMNS, b"")
                each = replace(each, num_unheard=each.num_unheard + count, **empty)
                count = 0
            self._num_rows += count
            key = (each.model, each.version, each.primary_version, each.topic_id, each.partition)
            self._held.setdefault(key, []).append(each)

    def close(self, now_us: int) -> list[tuple[str, ShadowComparison]]:
        """Topic and record of what was held: one for each pair of versions and partition, as of ``now_us``."""
        held, self._held, self._num_rows = self._held, {}, 0
        return [(TOPIC, _joined(each, now_us)) for each in held.values()]


def _joined(parts: list[ShadowComparison], now_us: int) -> ShadowComparison:
    columns: dict[str, Any] = {name: b"".join([getattr(part, name) for part in parts]) for name in COLUMNS}
    return replace(parts[0], time_us=now_us, num_unheard=sum([part.num_unheard for part in parts]), **columns)
