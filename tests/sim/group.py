"""A consumer group without a broker: members, generations, committed offsets.

Harsher than Kafka: a rebalance takes effect at once for whoever has heard of it, while the others go on with what they
held before. What protects the committed offsets is the generation, as with Kafka: a member that has not heard of the
newest one cannot commit.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

Place = tuple[str, int]


@dataclass(slots=True)
class Group:
    """One group over all partitions of its topics; the first topic's partitions and their peers go together."""

    name: str
    places: tuple[Place, ...]
    members: list[str] = field(default_factory=list)
    generation: int = 0
    assignment: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    committed: dict[Place, int] = field(default_factory=dict)

    def join(self, member: str, rng: random.Random) -> None:
        """Add a member, which begins a generation."""
        self.members.append(member)
        self.rebalance(rng)

    def leave(self, member: str, rng: random.Random) -> None:
        """Remove a member whose session ended, which begins a generation."""
        self.members.remove(member)
        self.rebalance(rng)

    def rebalance(self, rng: random.Random) -> None:
        """Deal the partitions anew, in an order of members that chance picks."""
        self.generation += 1
        order = list(self.members)
        rng.shuffle(order)
        given: dict[str, list[Place]] = {member: [] for member in order}
        for place in self.places:
            if order:
                given[order[place[1] % len(order)]].append(place)
        self.assignment = {member: tuple(places) for member, places in given.items()}

    def commit(self, member: str, generation: int, place: Place, offset: int) -> bool:
        """Note a committed offset; False when the member or its generation is not the group's any more."""
        if generation != self.generation or member not in self.members:
            return False
        self.committed[place] = offset
        return True
