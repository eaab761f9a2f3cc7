"""A process that answers every request at once, to measure clients with: ``python -m infra.bench.answerer CONFIG``.

It stands in for everything between the two public topics: each result is OK, holds one small tensor, and has the
headers and the key of a real one. CONFIG is JSON (``Config``). Says ``ready`` on stdout when it reads; ends when its
input does.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka as ck

from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, Source, Timing
from streams.codec import encode_body
from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER
from streams.varint import write_long, write_string

MARK: Final = bytes(range(100, 116))
RECEIVED_US: Final = 1
LOOK_S: Final = 0.5
"""Time between two looks at the number of partitions."""

Headers = list[tuple[str, str | bytes | None]]
OUTPUTS: Final = (Tensor("y", "FP32", (1, 10), bytes(40)),)


@dataclass(frozen=True, slots=True)
class Config:
    """Where to read requests and write results; ``topic_id`` in hexadecimal, ``schema_id`` of the results subject."""

    brokers: str
    requests_topic: str
    results_topic: str
    topic_id: str
    schema_id: int

    def write(self, path: Path) -> None:
        """Write as JSON for the command line."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Splice:
    """Results that differ in id and coordinate only."""

    def __init__(self, topic_id: bytes, schema_id: int) -> None:
        self._topic_id = topic_id
        result = InferenceResult(
            request_id="",
            tenant="default",
            received_us=RECEIVED_US,
            source=Source(MARK, 0, 0),
            status="OK",
            error=None,
            model="bench-00",
            model_version="v1.0.0",
            provenance=Provenance("0" * 64, 1, "", "", 1, 1, "CPUExecutionProvider", "executor-0", cached=False),
            timing=Timing(*(1_700_000_000_000_000 + number for number in range(4))),
            outputs=OUTPUTS,
        )
        body = encode_body("InferenceResult", result)
        at = body.index(MARK)
        self._prefix = b"\x00" + schema_id.to_bytes(4, "big")
        self._middle = body[1:at] + topic_id
        self._tail = body[at + len(MARK) + 2 :]  # behind partition and offset, a byte each

    def result(self, request_id: str, partition: int, offset: int) -> tuple[bytes, Headers]:
        """Value and headers of the result of a request."""
        value = b"".join((
            self._prefix, write_string(request_id), self._middle, write_long(partition), write_long(offset), self._tail,
        ))  # fmt: skip
        return value, [(SOURCE_HEADER, SOURCE.pack(self._topic_id, partition, offset)), (STATUS_HEADER, b"O")]


def run(config: Config, stop: threading.Event) -> None:
    """Answer what comes after the topic's ends of now, until ``stop``; the record key is taken for the request id."""
    splice = Splice(bytes.fromhex(config.topic_id), config.schema_id)
    consumer = ck.Consumer({
        "bootstrap.servers": config.brokers,
        "group.id": "isos-answerer",
        "enable.auto.commit": False,
        "check.crcs": False,
        "fetch.wait.max.ms": 100,
    })  # fmt: skip
    producer = ck.Producer({
        "bootstrap.servers": config.brokers,
        "linger.ms": 2,
        "socket.nagle.disable": True,
        "queue.buffering.max.messages": 1_000_000,
        "topic.metadata.refresh.interval.ms": int(LOOK_S * 1000),
    })  # fmt: skip
    num = _assign(consumer, config.requests_topic, 0)
    print("ready", flush=True)
    look_at = time.monotonic() + LOOK_S
    while not stop.is_set():
        if time.monotonic() >= look_at:
            num = _assign(consumer, config.requests_topic, num)
            look_at = time.monotonic() + LOOK_S
        first = consumer.poll(0.1)
        if first is not None:
            for message in (first, *consumer.consume(1000, 0)):
                _answer(message, splice, producer, config.results_topic)
        producer.poll(0)
    producer.flush(10)
    consumer.close()


def _assign(consumer: ck.Consumer, topic: str, num_known: int) -> int:
    """Read partitions beyond the first ``num_known`` too: the first ones from their ends, new ones from the start."""
    try:
        num = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    except ck.KafkaException:  # a broker that is away for a while
        return num_known
    added = [ck.TopicPartition(topic, number, 0) for number in range(num_known, num)]
    if not num_known:
        for place in added:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    if added:
        consumer.incremental_assign(added)
    return max(num, num_known)


def _answer(message: ck.Message, splice: Splice, producer: ck.Producer, topic: str) -> None:
    key: Any = message.key()
    partition, offset = message.partition(), message.offset()
    if message.error() is not None or key is None or partition is None or offset is None:
        return
    value, headers = splice.result(key.decode(), partition, offset)
    while True:
        try:
            producer.produce(topic, value, key, partition, headers=headers)
            return
        except BufferError:
            producer.poll(0.01)
        except ck.KafkaException as error:
            if error.args[0].code() != ck.KafkaError._UNKNOWN_PARTITION:
                raise
            producer.poll(0.05)  # a new partition, which its metadata will show soon


def main() -> None:
    """Run the configuration file named on the command line until the input ends."""
    config = Config(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(config, stop), name="answers")
    thread.start()
    sys.stdin.read()
    stop.set()
    thread.join()


if __name__ == "__main__":
    main()
