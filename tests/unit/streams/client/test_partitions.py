"""The choice of partitions, and what growth does to it."""

import pytest

from streams.client import partitions as client_partitions
from streams.client.partitions import Partitions


class Read:
    """Stands for ``Results``: notes what is to be read."""

    def __init__(self):
        self.asked = []

    def reads(self, partition):
        return partition in self.asked

    async def read(self, partition):
        self.asked.append(partition)


async def started(num, num_chosen=1):
    counts = [num]

    async def count():
        return counts[-1]

    read = Read()
    partitions = Partitions(count, read, num_chosen)
    await partitions.start()
    return partitions, read, counts


async def test_requests_without_a_key_stay_on_the_chosen_partition():
    partitions, read, _ = await started(64)
    chosen = {partitions.choose(None) for _ in range(20)}
    assert set(read.asked) == chosen
    assert len(chosen) == 1
    assert partitions.is_ready(*chosen)


async def test_clients_spread():
    assert len({(await started(64))[0].choose(None) for _ in range(40)}) > 10


async def test_several_partitions_take_turns():
    partitions, read, _ = await started(8, num_chosen=3)
    turn = [partitions.choose(None) for _ in range(6)]
    assert turn[:3] == turn[3:]
    assert set(turn) == set(read.asked)
    assert len(set(turn)) == 3


async def test_no_more_are_chosen_than_there_are():
    partitions, _, _ = await started(2, num_chosen=5)
    assert {partitions.choose(None) for _ in range(6)} == {0, 1}


@pytest.mark.parametrize(
    # Hashes of these keys by Apache Kafka's own test of its murmur2 (UtilsTest.testMurmur2).
    ("key", "hashed"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)],
)
async def test_a_key_is_placed_as_javas_clients_place_it(key, hashed):
    partitions, _, _ = await started(7)
    assert partitions.choose(key) == (hashed & 0x7FFFFFFF) % 7


async def test_growth_moves_keys_and_leaves_the_choice(monkeypatch):
    partitions, _, counts = await started(1)
    assert (partitions.choose(None), partitions.choose("21"), partitions.is_due) == (0, 0, False)
    counts.append(64)
    monkeypatch.setattr(client_partitions, "LOOK_S", 0.0)
    await partitions.look()
    assert partitions.is_due
    assert (partitions.choose(None), partitions.choose("21")) == (0, (-973932308 & 0x7FFFFFFF) % 64)
    assert not partitions.is_ready(partitions.choose("21"))


async def test_a_topic_made_anew_with_fewer_is_chosen_from_anew():
    partitions, _, counts = await started(64)
    counts.append(1)
    await partitions.look()
    assert partitions.choose(None) == 0
