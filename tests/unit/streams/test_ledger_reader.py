"""Reading to the end, with a reader whose log is a list; the broker is in tests/integration/test_ledger.py."""

from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from streams import ledger_reader
from streams.connection import UnreachableError
from streams.ledger_reader import UnknownTopicError, _read_to_end

PLACE = TopicPartition("t", 0)


class ListReader:
    """Serves a partition in batches; ``end`` may lie beyond the last record (a marker), where the position jumps."""

    def __init__(self, offsets, end, *, batch=2, stall=False):
        self.offsets, self.end, self.batch, self.stall = offsets, end, batch, stall
        self.at = None
        self.paused = []

    def assignment(self):
        return {PLACE}

    async def beginning_offsets(self, places):
        return dict.fromkeys(places, self.offsets[0] if self.offsets else self.end)

    async def end_offsets(self, places):
        return dict.fromkeys(places, self.end)

    def seek(self, place, offset):
        self.at = offset

    async def position(self, place):
        return self.at

    def pause(self, *places):
        self.paused += places

    async def getmany(self, *places, timeout_ms):
        if self.stall:
            return {}
        due = [offset for offset in self.offsets if offset >= self.at][: self.batch]
        self.at = due[-1] + 1 if due else self.end
        return {PLACE: [SimpleNamespace(offset=offset) for offset in due]} if due else {}


async def read(reader):
    seen, progress = [], []
    await _read_to_end(reader, "t", lambda batch: seen.extend(r.offset for r in batch), lambda *p: progress.append(p))
    return seen, progress


async def test_reads_up_to_the_end_of_the_start_and_says_how_far():
    seen, progress = await read(ListReader([3, 4, 6], 7))
    assert seen == [3, 4, 6]
    assert progress[0] == ("t", 0, 4)
    assert progress[-1] == ("t", 4, 4)


async def test_a_log_that_ends_in_a_marker_has_an_end():
    assert (await read(ListReader([0, 1], 4)))[0] == [0, 1]


async def test_records_beyond_the_end_of_the_start_are_left_out():
    assert (await read(ListReader([0, 1, 2, 3], 3, batch=4)))[0] == [0, 1, 2]


async def test_an_empty_log_needs_no_fetch():
    assert (await read(ListReader([], 5, stall=True)))[0] == []


async def test_a_silent_broker_is_an_error(monkeypatch):
    monkeypatch.setattr(ledger_reader, "STALL_TIMEOUT_S", 0.0)
    monkeypatch.setattr(ledger_reader, "bounded", lambda awaitable, seconds, what: awaitable)
    with pytest.raises(UnreachableError, match="no record arrived"):
        await read(ListReader([0], 1, stall=True))


def test_an_unknown_topic_is_named():
    assert str(UnknownTopicError("isos.x.v1")) == "topic isos.x.v1 does not exist on the broker"
