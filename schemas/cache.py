"""Whether the answers of a model are cached, as it stands in memory under ``cache/<model>``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Body of ``cache/<model>``; a model without one is not cached.

    ``epoch`` only grows: what was cached in an earlier one is never served again. ``ttl_s``: seconds after which an
    answer counts no more.
    """

    model: str
    enabled: bool
    epoch: int
    ttl_s: int
