"""Finds the one result of a request on the log: by its id from the newest on, or by the place of the request.

Also the request's own record and its dead letters. Nothing is kept but what was asked for; every look has a bound.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiokafka import TopicPartition

from streams.ledger import source_of
from streams.letters.letter import Letter, parse_letter
from streams.log_scan import LogScan, Step
from streams.topics import full_name

REQUESTS: Final = full_name("inference.requests")
RESULTS: Final = full_name("inference.results")
LETTERS: Final = TopicPartition(full_name("inference.dlq"), 0)
WINDOW: Final = 2_000
SKEW_MS: Final = 60_000
"""Partitions are stamped by their leaders, dead letters by their writers: clocks that may differ by so much."""
LETTER_MS: Final = 600_000
"""A dead letter of a request stands within this time behind its result."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Matches = Callable[[Any], bool]


def windows(first: int, end: int, size: int = WINDOW) -> Iterator[tuple[int, int]]:
    """``[first, end)`` cut into pieces of at most ``size``, the last one first."""
    while first < end:
        start = max(first, end - size)
        yield start, end
        end = start


class ResultSearch:
    """Searches with one open scan; ``topic_id``: the id of the requests topic as it is now."""

    def __init__(self, scan: LogScan, topic_id: bytes, progress: Progress) -> None:
        self._scan = scan
        self._topic_id = topic_id
        self._progress = progress

    async def by_id(self, request_id: str, num_partitions: int, last: int, matches: Matches) -> Any | None:
        """The newest result record with this key that ``matches``, among the newest ``last`` offsets (0: all).

        All partitions are searched side by side, a window of each at a time; None when there is none.
        """
        key, spans = request_id.encode(), {}
        for number in range(num_partitions):
            place = TopicPartition(RESULTS, number)
            first, end = await self._scan.bounds(place)
            spans[place] = windows(max(first, end - -(-last // num_partitions)) if last else first, end), end - first
        total = sum(min(length, -(-last // num_partitions)) if last else length for _, length in spans.values())
        left, done = {place: pieces for place, (pieces, _) in spans.items()}, 0
        while left:
            found: list[Any] = []
            for place in list(left):
                piece = next(left[place], None)
                if piece is None:
                    del left[place]
                    continue
                await self._scan.scan(place, *piece, _kept(found, lambda each: each.key == key and matches(each)))
                done += piece[1] - piece[0]
                self._progress("results, newest first", done, total)
            if found:
                return max(found, key=lambda each: (each.timestamp, each.offset))
        return None

    async def by_place(self, partition: int, offset: int, since_ms: int | None) -> Any | None:
        """The result record of the request at this place; ``since_ms``: when the request came (None: not known)."""
        place = TopicPartition(RESULTS, partition)
        first, end = await self._scan.bounds(place)
        if since_ms is not None:
            start = await self._scan.at_time(place, since_ms - SKEW_MS)
            first = end if start is None else max(first, start)
        found: list[Any] = []
        wanted = (self._topic_id, partition, offset)
        await self._scan.scan(
            place, first, end, _first(found, lambda each: source_of(each.headers) == wanted), self._step(first, end)
        )
        return found[0] if found else None

    async def request(self, partition: int, offset: int) -> Any | None:
        """The record of the request itself; None when nothing stands there (yet, or any more)."""
        place = TopicPartition(REQUESTS, partition)
        first, end = await self._scan.bounds(place)
        if not first <= offset < end:
            return None
        found: list[Any] = []
        await self._scan.scan(place, offset, offset + 1, _first(found, lambda each: each.offset == offset))
        return found[0] if found else None

    async def letters(self, topic_id: bytes, partition: int, offset: int, since_ms: int, until_ms: int) -> list[Letter]:
        """Dead letters of the request at this place, without their values, as they were written."""
        first, end = await self._scan.bounds(LETTERS)
        start = await self._scan.at_time(LETTERS, since_ms - SKEW_MS)
        stop = await self._scan.at_time(LETTERS, until_ms + LETTER_MS)
        key = f"{REQUESTS}/{partition}/{offset}".encode()
        found: list[Letter] = []

        def take(record: Any) -> bool:
            letter = parse_letter(record.value, tuple(record.headers)) if record.key == key else None
            if letter is not None and letter.topic_id in (None, topic_id):
                found.append(dataclasses.replace(letter, value=None, headers=()))
            return True

        begin = end if start is None else max(first, start)
        await self._scan.scan(LETTERS, begin, end if stop is None else min(end, stop), take)
        return found

    def _step(self, first: int, end: int) -> Step:
        return lambda reached: self._progress("results", reached - first, end - first)


def _kept(found: list[Any], wanted: Matches) -> Callable[[Any], bool]:
    """Keep the last wanted record in ``found`` beside those that stood there."""
    before = len(found)

    def take(record: Any) -> bool:
        if wanted(record):
            found[before:] = [record]
        return True

    return take


def _first(found: list[Any], wanted: Matches) -> Callable[[Any], bool]:
    """Put the first wanted record into ``found`` and want no more."""

    def take(record: Any) -> bool:
        if wanted(record):
            found.append(record)
        return not found

    return take
