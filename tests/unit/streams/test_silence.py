from streams.silence import LOOKS, SilenceCount, SilentConsumerError
from streams.takeover import HeldPartition


def held(offset: int = -1) -> HeldPartition:
    made = HeldPartition("t", 0, 1)
    made.fed_offset = offset
    return made


def test_silence_is_counted_while_records_wait_and_none_comes() -> None:
    counts, partition = SilenceCount(), held(9)
    assert [counts.look(partition, 20, 0) for _ in range(4)] == [0, 1, 2, 3]


def test_a_record_that_comes_ends_the_silence() -> None:
    counts, partition = SilenceCount(), held(9)
    assert [counts.look(partition, 20, 0) for _ in range(3)] == [0, 1, 2]
    partition.fed_offset = 10
    assert [counts.look(partition, 20, 0) for _ in range(2)] == [0, 1]


def test_an_empty_partition_is_not_silent() -> None:
    counts, partition = SilenceCount(), held(19)
    assert [counts.look(partition, 20, 0) for _ in range(LOOKS + 1)] == [0] * (LOOKS + 1)


def test_before_the_first_record_the_committed_offset_counts() -> None:
    counts, partition = SilenceCount(), held()
    assert [counts.look(partition, 20, 20) for _ in range(3)] == [0, 0, 0]
    assert [counts.look(partition, 21, 20) for _ in range(3)] == [1, 2, 3]


def test_a_new_generation_begins_anew() -> None:
    counts = SilenceCount()
    first, second = held(9), held(9)
    assert [counts.look(first, 20, 0) for _ in range(3)] == [0, 1, 2]
    assert counts.look(second, 20, 0) == 0


def test_the_sentence_names_the_partition() -> None:
    assert str(SilentConsumerError("t-0", 8)).startswith("records wait on t-0 and none has arrived for 8 s")
