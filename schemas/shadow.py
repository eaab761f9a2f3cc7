"""Shadow copies: another version also runs a share of a model's rows; its outcome is compared and never answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNKNOWN, EQUAL, AGREES, DIFFERS = range(4)
"""How a copy's outputs compare: not known, equal to the last bit, the same in what they say, others."""
AGREEMENTS: Final = ("unknown", "equal", "agrees", "differs")
DIGEST_BYTES: Final = 16
NO_DIGEST: Final = bytes(DIGEST_BYTES)
"""In place of the digest of outputs that there are none of, or that are not at hand."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Part of a plan: ``version`` also runs ``percent`` (1-100) of the model's rows, and answers none of them."""

    version: str
    percent: int


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """Body of ``shadow/<model>``: the version that shadows the one that serves, and the share of rows, in percent.

    0 percent: it has none any more. The key stays, so that its version tells one change from the next.
    """

    model: str
    version: str
    percent: int


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """Copies that ``version`` ran for ``model``, beside what ``primary_version`` made of the same requests.

    ``primary_version`` is empty where the primary's outcome was not at hand. ``num_unheard``: rows of the version's
    share of which no copy was heard of: nobody had time for it, or it was lost. Columns (bytes, little-endian, one
    entry per copy): ``offsets`` int64 of the request in ``partition`` of the topic ``topic_id``, ``id_lengths`` uint8
    into ``ids`` (UTF-8), ``statuses`` and ``primary_statuses`` uint8 (index into ``streams.columns.STATUSES``, 0: not
    at hand), ``latencies_us`` and ``primary_latencies_us`` int32 from routed to executed, ``runs_us`` and
    ``primary_runs_us`` int32 of the batches, ``digests`` and ``primary_digests`` 16 bytes each (BLAKE2b of the outputs,
    zeros for none), ``agreements`` uint8 (index into ``AGREEMENTS``).
    """

    model: str
    version: str
    primary_version: str
    topic_id: bytes
    partition: int
    time_us: int
    num_unheard: int
    offsets: bytes
    id_lengths: bytes
    ids: bytes
    statuses: bytes
    primary_statuses: bytes
    latencies_us: bytes
    primary_latencies_us: bytes
    runs_us: bytes
    primary_runs_us: bytes
    digests: bytes
    primary_digests: bytes
    agreements: bytes
