"""Quota charges request by request, for tests that think of one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.edge.quota import Charges, LocalQuota, QuotaStore, charges_of


@dataclass(frozen=True, slots=True)
class Charge:
    """One request: source partition, offset, tenant, LogAppendTime in us."""

    partition: int
    offset: int
    tenant: str
    time_us: int


def _asked(charges: Sequence[Charge]) -> list[tuple[Charges, list[int]]]:
    """Per partition the charges, and the index of each request."""
    found = []
    for partition in dict.fromkeys(each.partition for each in charges):
        indexes = [at for at, each in enumerate(charges) if each.partition == partition]
        mine = [charges[at] for at in indexes]
        names = list(dict.fromkeys(each.tenant for each in mine))
        asked = charges_of(
            partition,
            np.array([each.offset for each in mine], np.int64),
            np.array([each.time_us for each in mine], np.int64),
            np.array([names.index(each.tenant) for each in mine], np.int64),
            names,
        )
        found.append((asked, indexes))
    return found


async def judged(store: QuotaStore, charges: Sequence[Charge]) -> list[int]:
    """-1 per admitted request, else the microseconds until it would conform."""
    asked, answers = _asked(charges), [-1] * len(charges)
    for (_, indexes), refused in zip(asked, await store.charge([each for each, _ in asked]), strict=True):
        for at, wait in refused.items():
            answers[indexes[at]] = wait
    return answers


def judged_here(quota: LocalQuota, charges: Sequence[Charge]) -> list[int]:
    """The same by the rule in this process."""
    answers = [-1] * len(charges)
    for each, indexes in _asked(charges):
        for at, wait in quota.charge(each).items():
            answers[indexes[int(each.order[at])]] = wait
    return answers


def each_of(charges: Charges) -> list[Charge]:
    """The requests that are charged, by offset."""
    tenants = [run for run in charges.runs for _ in range(run.count)]
    return sorted(
        [
            Charge(charges.partition, offset, run.tenant, run.time_us)
            for offset, run in zip(charges.offsets.tolist(), tenants, strict=True)
        ],
        key=lambda each: each.offset,
    )
