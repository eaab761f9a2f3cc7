"""Which lanes of ``inference.routed`` an executor reads: fast ones first, the slow ones at the end.

Executors of one class are one consumer group, and the groups share the topic's partitions by number, so that a model
that crashes its process takes only executors of its own class along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from executors.profile import Version
from executors.stand_by import stand_by
from streams.committed import CommittedConsumer
from streams.lane_class import lane_for, lanes_of
from streams.memory_view import MemoryView, models, plan
from streams.topics import full_name

ROUTED: Final = full_name("inference.routed")


class Lanes(CommittedConsumer):
    """The assigned lanes; ``forget`` is called when a rebalance voids what is under way."""

    def __init__(self, consumer: AIOKafkaConsumer, forget: Callable[[], None]) -> None:
        super().__init__(consumer, ROUTED)
        self._forget = forget

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Another executor gets it again from the committed offset."""
        await super().on_partitions_revoked(revoked)
        self._forget()


class _OfClass(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka is untyped
    """Round robin over the lanes of one class."""

    num_slow: int
    slow: bool

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Divide the lanes of this class among the members; the others belong to another group."""
        partitions = cluster.partitions_for_topic(ROUTED) or set()
        lanes = lanes_of(len(partitions), cls.num_slow, slow=cls.slow)
        names = sorted(members)
        return {
            name: ConsumerProtocolMemberAssignment(cls.version, [(ROUTED, list(lanes)[at :: len(names)])], b"")
            for at, name in enumerate(names)
        }


def planned_versions(memory: MemoryView, num_lanes: int, num_slow: int, *, slow: bool) -> Iterator[Version]:
    """Model and version of everything that an effective plan sends to lanes of this class, or the next one may."""
    mine = lanes_of(num_lanes, num_slow, slow=slow)
    for name in models(memory):
        effective = plan(memory, name)
        if effective is not None and lane_for(name, effective.lane, num_lanes, num_slow) in mine:
            serving = [share.version for share in effective.versions]
            for version in dict.fromkeys((*serving, *effective.fallbacks, *stand_by(memory, name, serving))):
                yield name, version
            if effective.shadow is not None:
                yield name, effective.shadow.version


def assignor(num_slow: int, *, slow: bool) -> type[RoundRobinPartitionAssignor]:
    """The assignor of a class of executors where the last ``num_slow`` lanes are the slow ones.

    The fast ones' goes by the name of aiokafka's round robin, so that executors of a release without classes can be in
    their group during a roll. To offer both instead is no way: aiokafka 0.14.0 joins once per assignor that it offers,
    each time with another list, and two members can keep each other rebalancing for ever.
    """
    kind, name = ("Slow", "isos-slow-lanes") if slow else ("Fast", RoundRobinPartitionAssignor.name)
    return type(f"{kind}Lanes", (_OfClass,), {"name": name, "num_slow": num_slow, "slow": slow})
