"""What the Routers told of the cache, added up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.telemetry import Telemetry
from streams.cache.store import Held


def cache_report(windows: Iterable[Telemetry], held: Held | None, model: str, since_us: int) -> dict[str, Any]:
    """Hits, misses and their ratio by model version over the windows that began since then; one model, or all ("").

    ``held``: what Redis holds, None when it does not say.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    forged = unanswered = 0
    for window in windows:
        if window.window_start_us < since_us:
            continue
        forged += window.num_cache_forged
        unanswered += window.num_cache_unanswered
        for part in window.caches:
            if model in ("", part.model):
                count = counts.setdefault((part.model, part.version), [0, 0])
                count[0] += part.num_hits
                count[1] += part.num_misses
    rows = [
        {"model": name, "version": version, "hits": hits, "misses": misses, "hit_ratio": _ratio(hits, misses)}
        for (name, version), (hits, misses) in sorted(counts.items())
    ]
    shared = None if held is None else {"answers": held.num_answers, "bytes": held.num_bytes}
    return {"models": rows, "redis": shared, "forged": forged, "unanswered": unanswered}


def _ratio(hits: int, misses: int) -> float | None:
    return round(hits / (hits + misses), 4) if hits + misses else None
