"""Which version serves a row where breakers are not closed, or where the row failed before: a pure choice.

A version whose breaker is open gets no rows; one whose breaker is half open gets ``PROBE_PERMILLE`` of them, by a hash
of the request id, so that the same row is always judged alike. What a version may not take goes to the plan's
fallbacks, first choice first, then to the plan's other versions: to the first whose breaker is closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, RowError
from schemas.plan import Plan
from schemas.serving import Breaker
from streams.columns import ERROR, end_rows, take
from streams.frame_effects import SendFrame

PROBE_PERMILLE: Final = 50
"""Share of the rows that a half-open breaker lets through."""
AGAIN_MS: Final = 1_000
"""When a row that a half-open breaker refused may be sent again."""
NOWHERE: Final = ""
"""No version may serve the row."""


def choose_version(
    effective: Plan,
    breakers: Mapping[str, Breaker],
    planned: str,
    request_id: bytes,
    *,
    pinned: bool = False,
    failed: str = "",
) -> str:
    """The version that serves a row, or ``NOWHERE``.

    ``breakers``: those of the model that are not closed, by version (``memory_view.breakers``). ``planned``: the pinned
    version, else that of the row's weights. ``failed``: the version that the row failed on before: another one is
    tried, or, where there is none, the same again. A ``pinned`` row goes to its version or nowhere.
    """
    if planned != failed and _admits(breakers, planned, request_id):
        return planned
    if not pinned:
        for version in alternatives(effective, planned):
            if version != failed and version not in breakers:
                return version
    return failed if failed and _admits(breakers, failed, request_id) else NOWHERE


def alternatives(effective: Plan, planned: str) -> Iterator[str]:
    """Versions that may serve in the stead of ``planned``, first choice first; one may come twice."""
    for version in (*effective.fallbacks, *(share.version for share in effective.versions)):
        if version != planned:
            yield version


def is_probe(request_id: bytes) -> bool:
    """Whether a row is among those that a half-open breaker lets through."""
    hashed = int.from_bytes(hashlib.blake2b(request_id, digest_size=4).digest(), "little")
    return hashed % 1000 < PROBE_PERMILLE


def retry_after_ms(breakers: Mapping[str, Breaker], planned: str, now_us: int) -> int:
    """When a row that may go nowhere should be sent again, in milliseconds from now, at least 1."""
    breaker = breakers.get(planned)
    if breaker is None or breaker.state == "half_open":
        return AGAIN_MS
    return max(1, -(-(breaker.until_us - now_us) // 1000))


def _admits(breakers: Mapping[str, Breaker], version: str, request_id: bytes) -> bool:
    breaker = breakers.get(version)
    return breaker is None or (breaker.state == "half_open" and is_probe(request_id))


def refusal(
    frame: InferenceFrame, refused: Mapping[int, tuple[str, int]], memory_sequence: int, now_us: int
) -> SendFrame:
    """The rows that may go nowhere, by their number: they end with what they failed with before, else ``circuit_open``.

    Of each the version that it was planned for, and when it may be sent again (milliseconds).
    """
    rows = np.asarray(sorted(refused), np.int64)
    part = take(frame, rows)
    known = {error.row: error for error in part.errors}
    errors = [known.get(at) or _circuit_open(at, *refused[row]) for at, row in enumerate(rows.tolist())]
    bare = end_rows(part, ERROR, errors)
    ended = replace(bare, memory_sequence=memory_sequence, routed_us=now_us, attempt=0, not_before_us=0)
    return SendFrame("inference.executed", frame.partition, ended)


def _circuit_open(row: int, version: str, after_ms: int) -> RowError:
    sentence = f"version {version} failed most of its rows lately, and no other version may serve in its stead"
    return RowError(row, "circuit_open", sentence, after_ms)
