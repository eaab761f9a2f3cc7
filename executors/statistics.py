"""What this executor counts of the rows of versions that have a reference, for drift: sampled, bounded, no values.

At most ``ROWS_PER_S`` rows (items) of a version are looked at, evenly spread over a batch; of fewer, every one. Rows
that are answered from the cache run nowhere, Routers count them (``executors.cached_rows``); identical rows of a batch
count as often as they came, rows of checks not at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from executors.profile import Version
from executors.tally import TensorTally
from schemas.reference import Reference
from schemas.statistics import VersionStatistics
from streams.canonical import from_json
from streams.codec import Codec
from streams.columns import Array
from streams.errors import PoisonRecordError
from streams.memory_view import MemoryView
from streams.references import REFERENCES, reference_id
from streams.topics import full_name

log = logging.getLogger(__name__)

TOPIC: Final = "control.statistics"
ROWS_PER_S: Final = 200
BURST: Final = 64
FEW: Final = 16
"""A batch is looked at when so many of its rows may be: many small looks cost more than a few larger ones."""
LOOK_S: Final = 1.0
SEND_TIMEOUT_S: Final = 2.0


class VersionTally:
    """Counts of one version since the last window; see ``RowStatistics``."""

    __slots__ = ("_allowed", "_allowed_us", "identity", "num_rows", "num_sampled", "tensors")

    def __init__(self, reference: Reference, identity: str) -> None:
        self.identity = identity
        self.tensors = [TensorTally(tensor) for tensor in reference.tensors]
        self.num_rows = self.num_sampled = 0
        self._allowed = float(BURST)
        self._allowed_us = 0

    def note(
        self,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        places: Array | None,
        num_items: int,
        now_us: int,
        items: Array | None = None,
    ) -> None:
        """Look at some items of a batch that ran at ``now_us``. ``places``: where each item stands in ``inputs``.

        ``items``: the only ones that count (int64, ascending); None for all.
        """
        if items is not None:
            num_items = len(items)
            if not num_items:
                return
        count = self.admit(num_items, now_us)
        if not count:
            return
        pick: slice | Array = slice(0, num_items // count * count, num_items // count)
        if items is not None:
            pick = items[pick]
        self.look(inputs, outputs, pick if places is None else places[pick], pick)

    def admit(self, num_items: int, now_us: int) -> int:
        """Note that so many items ran or were answered at ``now_us``; how many of them may be looked at."""
        self.num_rows += num_items
        more = max(now_us - self._allowed_us, 0) * ROWS_PER_S / 1e6
        self._allowed, self._allowed_us = min(self._allowed + more, BURST), now_us
        if not num_items or self._allowed < min(num_items, FEW):
            return 0
        count = min(int(self._allowed), num_items)
        self._allowed -= count
        self.num_sampled += count
        return count

    def look(
        self,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        of_inputs: slice | Array,
        of_outputs: slice | Array,
    ) -> None:
        """Count the items that are named of inputs and outputs, those that ``admit`` allowed."""
        for tensor in self.tensors:
            array = (outputs if tensor.is_output else inputs).get(tensor.name)
            if array is not None:
                tensor.add(array, of_outputs if tensor.is_output else of_inputs)

    def take(self, executor: str, version: Version, start_us: int, end_us: int) -> VersionStatistics | None:
        """The window's record, None where nothing ran; a new window begins."""
        if not self.num_rows:
            return None
        measures = tuple(counts for tensor in self.tensors for counts in tensor.take())
        counted = self.num_rows, self.num_sampled
        self.num_rows = self.num_sampled = 0
        return VersionStatistics(executor, *version, self.identity, start_us, end_us - start_us, *counted, measures)


class RowStatistics:
    """Counts by version of those that have a reference: ``watched``, empty where none has."""

    def __init__(self, executor: str, now_us: int) -> None:
        self.watched: dict[Version, VersionTally] = {}
        self._executor = executor
        self._since_us = now_us
        self._known: dict[str, int] = {}
        self._sequence = -1

    def learn(self, view: MemoryView) -> None:
        """Follow the references in memory."""
        if view.sequence == self._sequence:
            return
        self._sequence = view.sequence
        standing = {key: entry for key, entry in view.entries.items() if key.startswith(REFERENCES)}
        for key, sequence in list(self._known.items()):
            if key not in standing or standing[key].sequence != sequence:
                del self._known[key]
                self.watched.pop(_version_of(key), None)
        for key, entry in standing.items():
            if key not in self._known:
                self._known[key] = entry.sequence
                try:
                    reference = from_json(Reference, entry.body, newer=True)
                    self.watched[_version_of(key)] = VersionTally(reference, reference_id(entry.body))
                except PoisonRecordError as error:
                    log.error("%s cannot be counted by: %s", key, error)

    def close(self, now_us: int) -> Iterator[VersionStatistics]:
        """The records of the window that ends now; a new one begins."""
        since_us, self._since_us = self._since_us, now_us
        for version, tally in self.watched.items():
            made = tally.take(self._executor, version, since_us, now_us)
            if made is not None:
                yield made


async def send_statistics(
    producer: AIOKafkaProducer, codec: Codec, rows: RowStatistics, memory: Callable[[], MemoryView], window_s: float
) -> None:
    """Send a window's records each ``window_s`` until cancelled; best effort, what cannot be sent is left out."""
    next_s = time.monotonic() + window_s
    while True:
        rows.learn(memory())
        await asyncio.sleep(max(0.0, min(LOOK_S, next_s - time.monotonic())))
        if time.monotonic() < next_s:
            continue
        next_s = time.monotonic() + window_s
        for made in list(rows.close(time.time_ns() // 1000)):
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    key = f"{made.model}/{made.version}".encode()
                    await producer.send_and_wait(full_name(TOPIC), codec.encode(TOPIC, made), key=key)
            except (KafkaError, TimeoutError) as error:
                log.warning("statistics of %s were not sent: %s", made.model, type(error).__name__)


def _version_of(key: str) -> Version:
    model, _, version = key.removeprefix(REFERENCES).partition("/")
    return model, version
