"""Figures of shadows from what the Validator noted: rows, outcomes, agreement, and how long both took. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from schemas.shadow import AGREEMENTS, AGREES, DIFFERS, EQUAL, ShadowComparison
from streams.columns import OK, STATUSES, Array

COLUMNS: Final = (
    *(("offsets", "<i8"), ("statuses", "|u1"), ("primary_statuses", "|u1"), ("latencies_us", "<i4")),
    *(("primary_latencies_us", "<i4"), ("runs_us", "<i4"), ("primary_runs_us", "<i4"), ("agreements", "|u1")),
)


def figures(records: Iterable[ShadowComparison], model: str, since_us: int = 0) -> list[dict[str, Any]]:
    """A row of figures for each version that shadowed the model since a time, by its name; each request counts once."""
    by_version: dict[str, list[ShadowComparison]] = {}
    for record in records:
        if record.model == model and record.time_us >= since_us:
            by_version.setdefault(record.version, []).append(record)
    return [_figures(version, by_version[version]) for version in sorted(by_version)]


def _figures(version: str, records: list[ShadowComparison]) -> dict[str, Any]:
    columns = {
        name: np.concatenate([np.frombuffer(getattr(record, name), dtype) for record in records])
        for name, dtype in COLUMNS
    }
    rows = _each_once(records, columns["offsets"], columns["primary_statuses"])
    columns = {name: column[rows] for name, column in columns.items()}
    statuses, primary = columns["statuses"], columns["primary_statuses"]
    agreements = np.bincount(columns["agreements"], minlength=len(AGREEMENTS)).tolist()
    known = agreements[EQUAL] + agreements[AGREES] + agreements[DIFFERS]
    ran, answered = statuses == OK, primary == OK
    return {
        "version": version,
        "primary_versions": sorted({record.primary_version for record in records} - {""}),
        "rows": len(rows),
        **{name.lower(): int(np.count_nonzero(statuses == number)) for number, name in enumerate(STATUSES) if number},
        "unheard": sum(record.num_unheard for record in records),
        "primary_failed": int(np.count_nonzero(primary > OK)),
        "compared": known,
        "equal": agreements[EQUAL],
        "agrees": agreements[AGREES],
        "differs": agreements[DIFFERS],
        "agreement": round((known - agreements[DIFFERS]) / known, 6) if known else None,
        **_quantiles("", columns["latencies_us"][ran], columns["runs_us"][ran]),
        **_quantiles("primary_", columns["primary_latencies_us"][answered], columns["primary_runs_us"][answered]),
    }


def _each_once(records: list[ShadowComparison], offsets: Array, primary: Array) -> Array:
    """Places of the copies, one of each request: the one beside its row where there is one, else the first."""
    places = [(record.topic_id, record.partition, len(record.statuses)) for record in records]
    owners = [(topic, partition) for topic, partition, count in places for _ in range(count)]
    best: dict[tuple[bytes, int, int], int] = {}
    for at, ((topic, partition), offset) in enumerate(zip(owners, offsets.tolist(), strict=True)):
        known = best.setdefault((topic, partition, offset), at)
        if not primary[known] and primary[at]:
            best[topic, partition, offset] = at
    return np.array(sorted(best.values()), np.int64)


def _quantiles(prefix: str, latencies_us: Array, runs_us: Array) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, values, percent in (
        ("p50_ms", latencies_us, 50), ("p99_ms", latencies_us, 99), ("run_p50_ms", runs_us, 50),
    ):  # fmt: skip
        found[prefix + name] = round(float(np.percentile(values, percent)) / 1000, 3) if len(values) else None
    return found
