"""Hits and misses of several Routers' windows, added up."""

from __future__ import annotations

from infra.cache_stats import cache_report
from schemas.telemetry import CacheWindow, Telemetry
from streams.cache.store import Held
from tests.support.frames import T


def window(at_us: int, *caches: CacheWindow, forged: int = 0, unanswered: int = 0) -> Telemetry:
    return Telemetry("router", 0, at_us, 1_000_000, 0, 0, (), caches, forged, unanswered)


WINDOWS = (
    window(T - 1, CacheWindow("digits", "v1.0.0", 100, 0), forged=9),
    window(T, CacheWindow("digits", "v1.0.0", 3, 1), CacheWindow("letters", "v1.0.0", 0, 0), forged=1),
    window(T, CacheWindow("digits", "v1.0.0", 0, 4), CacheWindow("digits", "v2.0.0", 1, 0), unanswered=2),
)


def test_ratios_by_version_since_a_time() -> None:
    report = cache_report(WINDOWS, Held(7, 900), "", T)
    assert report == {
        "models": [
            {"model": "digits", "version": "v1.0.0", "hits": 3, "misses": 5, "hit_ratio": 0.375},
            {"model": "digits", "version": "v2.0.0", "hits": 1, "misses": 0, "hit_ratio": 1.0},
            {"model": "letters", "version": "v1.0.0", "hits": 0, "misses": 0, "hit_ratio": None},
        ],
        "redis": {"answers": 7, "bytes": 900},
        "forged": 1,
        "unanswered": 2,
    }


def test_one_model_and_a_redis_that_is_away() -> None:
    report = cache_report(WINDOWS, None, "letters", T)
    assert [row["model"] for row in report["models"]] == ["letters"]
    assert report["redis"] is None
