"""Inputs to warm the cache with, from a file or from the newest requests, and the requests that do it.

Warming is asking: each input goes the way of every request, with the lowest priority, and its answer is cached by the
Validator like any other. Nothing else writes to the cache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from infra.json_lines import json_lines
from schemas.request import InferenceRequest, Tensor
from streams.client.answer import Answer
from streams.client.client import Client, Request
from streams.codec import Codec
from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.errors import IsosError, PoisonRecordError
from streams.provision import topic_partitions
from streams.tensors import to_array
from streams.topics import full_name

REQUESTS: Final = "inference.requests"
LOWEST_PRIORITY: Final = 9
MAX_KEPT_BYTES: Final = 256 << 20
FETCH_MS: Final = 200
CALL_S: Final = 20.0
IDLE_S: Final = 30.0

Inputs = dict[str, Any]
"""Arrays by input name."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of the inputs: answered anew, answered by the cache already, not answered OK; the first reason."""

    num_answered: int = 0
    num_cached: int = 0
    num_failed: int = 0
    reason: str = ""


def inputs_of_file(path: Path) -> Iterator[Any]:
    """Each input of a file, in order: a line of JSON (``.jsonl``), or an item of the arrays' first axis (.npy, .npz).

    Raises OSError when it cannot be read and ValueError, with the line, when it is not what its name says.
    """
    import numpy as np

    if path.suffix in (".npy", ".npz"):
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        lengths = {len(array) for array in arrays.values() if array.ndim}
        if len(lengths) != 1 or any(array.ndim == 0 for array in arrays.values()):
            raise ValueError("its arrays have no common first axis")
        for at in range(lengths.pop()):
            yield {name: array[at : at + 1] for name, array in arrays.items()}
        return
    for _, value in json_lines(path, ValueError):
        yield value if isinstance(value, dict) else {"": value}


async def hottest(connection: Connection, model: str, *, num_inputs: int, last: int) -> list[tuple[int, Inputs]]:
    """The inputs that came most often among the ``last`` requests of each partition: how often, and arrays.

    Inputs in a blob are passed over. Raises RetriableError when the broker is away.
    """
    from streams.registry.schema_log import read_schema_ids

    codec = Codec(await read_schema_ids(connection))
    counts = InputCounts(model)
    async for value in _newest(connection, last):
        try:
            request = codec.decode(REQUESTS, value)
        except PoisonRecordError:
            continue
        counts.add(request)
    return [(count, inputs_of(tensors)) for count, tensors in counts.most_common(num_inputs)]


class InputCounts:
    """How often each input of a model came, within bounds: of what comes late, only inputs known already count."""

    def __init__(self, model: str, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._model = model
        self._left = max_bytes
        self._counts: dict[bytes, list[Any]] = {}

    def add(self, request: InferenceRequest) -> None:
        """Count a request of the model."""
        if request.model != self._model or request.blob is not None:
            return
        digest = blake2b(digest_size=16)
        for tensor in request.inputs:
            digest.update(f"{tensor.name}\n{tensor.datatype}\n{tensor.shape}\n".encode())
            digest.update(tensor.data)
        key = digest.digest()
        known = self._counts.get(key)
        if known is not None:
            known[0] += 1
            return
        self._left -= sum(len(tensor.data) for tensor in request.inputs)
        if self._left >= 0:
            self._counts[key] = [1, request.inputs]

    def most_common(self, number: int) -> list[tuple[int, tuple[Tensor, ...]]]:
        """The inputs that came most often, the most frequent first; equally frequent ones in the order they came."""
        ordered = sorted(self._counts.values(), key=lambda counted: -counted[0])
        return [(count, tensors) for count, tensors in ordered[:number]]


def inputs_of(tensors: Sequence[Tensor]) -> Inputs:
    """Arrays by name."""
    return {tensor.name: to_array(tensor) for tensor in tensors}


async def _newest(connection: Connection, last: int) -> AsyncIterator[bytes]:
    """Values of the newest requests of every partition."""
    topic = full_name(REQUESTS)
    num_partitions = (await topic_partitions(connection, [REQUESTS])).get(REQUESTS, 0)
    client = consumer(connection)
    try:
        await start(client, "connecting to read requests")
        for place in [TopicPartition(topic, number) for number in range(num_partitions)]:
            client.assign([place])
            begin = (await bounded(client.beginning_offsets([place]), CALL_S, "asking for offsets"))[place]
            end = (await bounded(client.end_offsets([place]), CALL_S, "asking for offsets"))[place]
            client.seek(place, max(begin, end - last))
            while await client.position(place) < end:
                fetched = await bounded(client.getmany(place, timeout_ms=FETCH_MS), IDLE_S, "reading requests")
                for record in [record for batch in fetched.values() for record in batch]:
                    if record.value is not None and record.offset < end:
                        yield record.value
    except KafkaError as error:
        raise UnreachableError("reading requests", type(error).__name__) from error
    finally:
        await stop_quietly(client)


async def warm(
    client: Client, model: str, inputs: Iterable[Inputs], *, version: str | None, progress: Callable[[int], None]
) -> Warmed:
    """Ask for the answer to each input, as many at once as the client allows; ``progress`` gets the number done."""
    requests = (Request(model, each, version, LOWEST_PRIORITY) for each in inputs)
    answered = cached = failed = 0
    reason = ""
    async with aclosing(client.stream(requests, return_exceptions=True)) as answers:
        async for answer in answers:
            error = answer if isinstance(answer, IsosError) else answer.error()
            if error is not None:
                failed += 1
                reason = reason or str(error)
            elif isinstance(answer, Answer) and answer.result.provenance.cached:
                cached += 1
            else:
                answered += 1
            progress(answered + cached + failed)
    return Warmed(answered, cached, failed, reason)
