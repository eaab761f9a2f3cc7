"""More partitions for a running data plane, in the order that lets every record be answered.

A request on a new partition travels on that number through all topics but the lanes, so what lies at the end of its
path must be there first: ``results``, ``ledger-checkpoints``, ``executed``, ``retries``, ``admitted``, and ``requests``
last, each seen on the broker before the next. Before ``requests`` there is a pause in which every producer of the data
plane learns of the others. An interrupted growth is completed by asking for it again: what has the partitions is passed
over.

Consumers notice new partitions by themselves. A record with a key may go to another partition than before, because the
clients' partitioners count partitions; order among records of one key holds on either side of the growth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streams.connection import METADATA_MAX_AGE_MS, Connection
from streams.errors import IsosError
from streams.provision import add_partitions

ORDER: Final = (
    "inference.results",
    "inference.ledger-checkpoints",
    "inference.executed",
    "inference.retries",
    "inference.admitted",
    "inference.requests",
)
REQUESTS: Final = ORDER[-1]
ROUTED: Final = "inference.routed"
SETTLE_S: Final = 2 * METADATA_MAX_AGE_MS / 1000

Report = Callable[[str], None]
"""Called with a sentence about what is being done."""


class GrowthRefusedError(IsosError):
    """Partitions cannot be taken away: ``topic`` (short name) has ``found``, and ``wanted`` is less."""

    def __init__(self, topic: str, found: int, wanted: int) -> None:
        super().__init__(topic, found, wanted)
        self.topic = topic
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"topic {self.topic} has {self.found} partitions; {self.wanted} would take some away, "
            "and with them requests and their results"
        )


class TopicMissingError(IsosError):
    """``topic`` (short name) is not on the broker."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return f"topic {self.topic} does not exist on the broker; `isos topics provision` creates it"


@dataclass(frozen=True, slots=True)
class Step:
    """One topic (short name): number of partitions now and after."""

    topic: str
    before: int
    after: int


def steps(found: Mapping[str, int], *, partitions: int | None, lanes: int | None) -> tuple[Step, ...]:
    """What is to be done, in order; None leaves the number as it is. ``found``: partitions by short name.

    Raises GrowthRefusedError for less than there are, TopicMissingError.
    """
    wanted = [(topic, partitions) for topic in ORDER if partitions is not None]
    if lanes is not None:
        wanted.insert(0, (ROUTED, lanes))
    plan = []
    for topic, count in wanted:
        if topic not in found:
            raise TopicMissingError(topic)
        if count is None or count < found[topic]:
            raise GrowthRefusedError(topic, found[topic], count or 0)
        if count > found[topic]:
            plan.append(Step(topic, found[topic], count))
    return tuple(plan)


async def grow(
    connection: Connection, plan: Sequence[Step], *, settle_s: float = SETTLE_S, report: Report = lambda sentence: None
) -> None:
    """Carry out ``steps``. Raises RetriableError when the broker does not answer; then it may be asked for again."""
    for step in plan:
        if step.topic == REQUESTS:
            # What a producer knows cannot be asked from outside, only how long it may rely on what it knows. Also after
            # an interrupted growth: the topics before may have been done a moment ago.
            report(f"waiting {settle_s:g} s for every process to know the new partitions")
            await asyncio.sleep(settle_s)
        await add_partitions(connection, step.topic, step.after)
        report(f"{step.topic} has {step.after} partitions")
